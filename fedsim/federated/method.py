"""What a federated method is: a small value with a step on the server, a step on the client, and predictors.

::

    state = start()
    once:         kept   = setup(state)             to every client, with its first message
    each round:   packet = down(state)              server
                  reply  = step(client, packet)     every client of the cohort
                  update = receive(reply)           server: read, check, or reject this one client
                  state  = merge(state, updates)    server

A method keeps nothing itself. What the server knows is its :class:`State`, what a client knows is what it
:attr:`keeps <Client.kept>`, and what passes between them are packets, whose bytes are counted. A new method
is one file with one class and a name in the registry.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.errors import FederationError
from fedsim.federated.packet import Packet
from fedsim.federated.site import Site
from fedsim.federated.work import Work

__all__ = ["Client", "FederatedMethod", "Predictor", "State", "available", "find", "register"]

#: From images uint8 [n, C, H, W] to scores [n, classes]; minus infinity for classes that it does not know.
Predictor = Callable[[Tensor], Tensor]

_Class = TypeVar("_Class", bound="type[FederatedMethod]")
_registered: dict[str, type[FederatedMethod]] = {}


@dataclass(frozen=True)
class State:
    """What the server knows between two rounds: arrays and class statistics, by name."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    statistics: Mapping[str, ClassStatistics] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """All of it, exactly."""
        kept = {f"array.{name}": np.ascontiguousarray(value) for name, value in self.arrays.items()}
        dimensions = {}
        for name, statistics in self.statistics.items():
            codec = StatisticsCodec(statistics.dimension, 64)
            coded = codec.encode(statistics).payload
            kept[f"statistics.{name}"] = np.frombuffer(coded, np.uint8)
            dimensions[name] = statistics.dimension
        return save_arrays(kept, {"dimensions": json.dumps(dimensions)})

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """The inverse of :meth:`to_bytes`."""
        length = int.from_bytes(data[:8], "little")
        dimensions = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["dimensions"])
        kept = load_arrays(data)
        return cls(
            {name.partition(".")[2]: value for name, value in kept.items() if name.startswith("array.")},
            {
                name: StatisticsCodec(dimension, 64).decode(kept[f"statistics.{name}"].tobytes())
                for name, dimension in dimensions.items()
            },
        )


@dataclass(frozen=True)
class Client:
    """What a method sees of one client in one round.

    Args:
        partition: its number.
        round: from 1.
        indices: its samples of this round, in the training set of the site, int64 [n].
        kept: what it keeps from round to round; a method puts bytes in and takes them out.
    """

    partition: int
    round: int
    indices: NDArray[np.int64]
    kept: MutableMapping[str, bytes]

    def generator(self, seed: int) -> torch.Generator:
        """Random numbers of this client in this round; the same seed gives the same on every engine."""
        stream = np.random.SeedSequence([seed, self.partition, self.round]).generate_state(2)
        return torch.Generator().manual_seed(int(stream[0]) << 32 | int(stream[1]))


class FederatedMethod(ABC):
    """A method with its options: a frozen dataclass. See the module for what is called when."""

    @property
    def additive(self) -> bool:
        """Whether :meth:`merge` needs no more than the sum of its updates: counts and sums, a row a class."""
        return False

    @abstractmethod
    def start(self, site: Site) -> State:
        """What the server knows ahead of the first round."""

    def setup(self, site: Site, state: State) -> Packet:
        """What a client is sent once, ahead of all else; it finds the parts in what it keeps."""
        return Packet()

    @abstractmethod
    def down(self, site: Site, state: State) -> Packet:
        """What the clients of a round are sent."""

    @abstractmethod
    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """What a client does, and what it replies."""

    @abstractmethod
    def receive(self, site: Site, packet: Packet) -> Any:
        """Read a client's reply on the server.

        Raises:
            FederationError, StatisticsError: it is not what a client may reply. The client is named and
                left out, and the round goes on.
        """

    @abstractmethod
    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, Any]]) -> State:
        """What the server knows after a round.

        Args:
            site: of the run.
            state: before it.
            updates: partition and what :meth:`receive` made of its reply, by ascending partition.
        """

    @abstractmethod
    def shared(self, site: Site, state: State) -> Packet:
        """What clients are sent for evaluation, on top of what they keep."""

    @abstractmethod
    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """How a client predicts, by name: ``prototypes``, ``head``.

        Args:
            site: of the run.
            client: with what it keeps.
            packet: of :meth:`shared`.
        """

    def work(self, site: Site, partition: int, samples: int) -> Work | None:
        """What a client's step asks of its processor, so that it can be priced on another device.

        Args:
            site: of the run.
            partition: of the client.
            samples: that it has in the round.

        Returns:
            None where nobody knows, by default: the step then takes as long as on this machine.
        """
        return None

    def publish(self, site: Site, state: State, folder: Path) -> None:  # noqa: B027  not every method has any
        """Write what is of use without a federation, behind every round. Nothing, by default.

        Args:
            site: of the run.
            state: behind the round.
            folder: for it, with what an earlier round has left; it need not exist.
        """


def register(name: str) -> Callable[[_Class], _Class]:
    """Make a method known by a name of a scenario file."""

    def decorate(method: _Class) -> _Class:
        if name in _registered:
            raise ValueError(f"there is a federated method {name!r} already")
        _registered[name] = method
        return method

    return decorate


def find(name: str) -> type[FederatedMethod]:
    """The method of a registered name, or of ``package.module:Class``.

    Raises:
        FederationError: unknown, and lists the known ones; or what is there is no method that is complete.
    """
    _load()
    if name in _registered:
        return _registered[name]
    if ":" in name:
        return _imported(name)
    known = ", ".join(sorted(_registered))
    raise FederationError(f"unknown federated method {name!r}; known are {known}, or package.module:Class")


def available() -> dict[str, str]:
    """Every method's name, with the first line of its documentation."""
    _load()
    return {name: (_registered[name].__doc__ or "").partition("\n")[0] for name in sorted(_registered)}


def _imported(path: str) -> type[FederatedMethod]:
    module, _, attribute = path.partition(":")
    try:
        found = reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # importing the code of others can raise anything
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise FederationError(f"federated method {path!r} cannot be imported: {kind}{error}") from error
    if not (isinstance(found, type) and issubclass(found, FederatedMethod) and is_dataclass(found)):
        raise FederationError(f"{path!r} is no dataclass that is a FederatedMethod")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise FederationError(f"federated method {path!r} is not complete: it has no {', '.join(missing)}")
    return found


def _load() -> None:
    """Import the methods that come with fedsim."""
    from fedsim.federated import methods  # noqa: PLC0415  (they import this module)

    for module in pkgutil.iter_modules(methods.__path__):
        importlib.import_module(f"{methods.__name__}.{module.name}")
