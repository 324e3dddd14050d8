"""A training on disk: written while it goes on, so that after a kill it goes on where it was.

When a recipe is run again, each stage that the checkpoint has left behind returns the history that it
had; the stage that it was written in goes on with the next epoch. What stands between the stages runs
again, and whatever it did is overwritten when that stage begins; what is better left undone asks
:attr:`Checkpoint.ahead`.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from edge.bottlenecks import Bottleneck
from edge.coding.tables import FrequencyTables
from fedsim.errors import TrainingError

__all__ = ["Checkpoint", "Epoch", "Stage", "code_of", "identity_of"]

#: Raised when the meaning of a file changes.
FORMAT = 1
_DIGEST = 32  # bytes of SHA-256 ahead of the rest


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: batch means of the figures that the step reported."""

    stage: str
    epoch: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Stage:
    """Everything that a stage of a training changes."""

    model: nn.Module
    optimiser: Optimizer
    scheduler: LRScheduler
    generator: torch.Generator  #: draws the batches

    def state(self) -> dict[str, Any]:
        """All of it, with torch's global generators."""
        return {
            "model": self.model.state_dict(),
            "tables": _tables(self.model),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if _on_gpu(self.model) else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what :meth:`state` told."""
        _load(self.model, state["model"])
        for name, arrays in state["tables"].items():
            tables = FrequencyTables.from_arrays({key: value.numpy() for key, value in arrays.items()})
            bottleneck = self.model.get_submodule(name)
            assert isinstance(bottleneck, Bottleneck)
            bottleneck.load_tables(tables)
        self.optimiser.load_state_dict(state["optimiser"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


class Checkpoint:
    """The file of one training.

    It is written whole or not at all. One that is damaged, or that belongs to a training which differs
    in anything that decides the result, is left aside, and ``remark`` is told so.

    Args:
        path: the file; its folder is made when it is first written.
        identity: from :func:`identity_of`.
        every_s: the end of an epoch is written down if the last writing is at least so many seconds ago;
            the end of a stage always is.
        remark: is called with a sentence for people.
    """

    def __init__(
        self,
        path: Path,
        identity: str,
        *,
        every_s: float = 10.0,
        remark: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._path = path
        self._identity = identity
        self._every_s = every_s
        self._remark = remark
        self._written = time.monotonic()
        self._position = -1  # of the present stage
        self._histories: list[list[Epoch]] = []  # of the stages up to the present one
        self._kept = self._read()
        if self._kept is not None:
            epochs = sum(len(history) for history in self._kept["histories"])
            remark(f"{path.stem}: its training goes on after epoch {epochs}, from a checkpoint")

    @property
    def ahead(self) -> bool:
        """Whether the present stage has ended and what is kept was written in a later one."""
        return self._kept is not None

    def begin(self, stage: Stage) -> list[Epoch]:
        """The epochs that the next stage has behind it already; ``stage`` is brought to their end.

        Raises:
            TrainingError: what was kept cannot be loaded, as when a bottleneck's parts have other names
                after it is frozen.
        """
        self._position += 1
        self._histories.append([])
        kept = self._kept
        if kept is None:
            return []
        if self._position == kept["position"]:
            try:
                stage.restore(kept["state"])
            except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise TrainingError(
                    f"{self._path} does not fit the training it was written in: {error}; "
                    "remove it and the training starts anew"
                ) from error
            self._kept = None
        history = [Epoch(*entry) for entry in kept["histories"][self._position]]
        self._histories[-1] = history
        return list(history)

    def epoch_ended(self, stage: Stage, history: list[Epoch], *, last: bool) -> None:
        """Write down where the present stage is, unless that was done just now and more epochs follow."""
        self._histories[-1] = list(history)
        if not last and time.monotonic() - self._written < self._every_s:
            return
        try:
            self._write(stage)
        except OSError as error:
            with suppress(OSError):
                self._partial.unlink(missing_ok=True)  # of a full disk
            reason = error.strerror or error
            self._remark(f"{self._path.stem}: no checkpoint can be written to {self._path}: {reason}")
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the training has ended, and what it made is kept elsewhere."""
        for path in (self._path, self._partial):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    @property
    def _partial(self) -> Path:
        return self._path.with_name(f".{self._path.name}.partial")

    def _write(self, stage: Stage) -> None:
        record = {
            "format": FORMAT,
            "identity": self._identity,
            "position": self._position,
            "histories": [[(e.stage, e.epoch, e.figures) for e in history] for history in self._histories],
            "state": stage.state(),
        }
        buffer = io.BytesIO()
        torch.save(record, buffer)
        content = buffer.getvalue()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._partial.open("wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        os.replace(self._partial, self._path)

    def _read(self) -> dict[str, Any] | None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._remark(f"{self._path} is left aside: {error.strerror or error}")
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            self._remark(f"{self._path} is damaged and left aside; the training starts anew")
            return None
        try:
            record = torch.load(io.BytesIO(content[_DIGEST:]), map_location="cpu", weights_only=True)
            same = (record["format"], record["identity"]) == (FORMAT, self._identity)
        except (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            self._remark(f"{self._path} cannot be read and is left aside: {error}")
            return None
        if not same:
            self._remark(f"{self._path} is of another training and left aside; this one starts anew")
            return None
        checked: dict[str, Any] = record
        return checked


def identity_of(**decisive: object) -> str:
    """A name for everything that decides what a training comes to.

    Args:
        decisive: JSON values, such as the specification, the recipe and the seed. To them comes what
            decides the rounding: torch's version, its threads and the instructions that it uses.
    """
    rounding = [
        torch.__version__,
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
        torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        torch.cuda.get_device_name() if torch.cuda.device_count() else None,
    ]
    text = json.dumps([FORMAT, rounding, decisive], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def code_of(*parts: nn.Module | ModuleType | None) -> list[str]:
    """Digests of the files that say what networks and their layers do: a user's own may be edited.

    Those of torch are left out: its version stands for them.

    Args:
        parts: networks, or the modules of Python that make them.
    """
    sources: set[type | ModuleType] = {part for part in parts if isinstance(part, ModuleType)}
    for network in (part for part in parts if isinstance(part, nn.Module)):
        classes = {cls for layer in network.modules() for cls in type(layer).__mro__}
        sources |= {cls for cls in classes if cls.__module__.partition(".")[0] != "torch"}
    digests = set()
    for source in sources:
        with suppress(TypeError, OSError):
            file = inspect.getsourcefile(source)
            digests.add(hashlib.sha256(Path(file or "").read_bytes()).hexdigest())
    return sorted(digests)


def _on_gpu(model: nn.Module) -> bool:
    return any(parameter.is_cuda for parameter in model.parameters())


def _tables(model: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """The frequency tables of every bottleneck in ``model`` that has some, by its name there."""
    named = {name: part for name, part in model.named_modules() if isinstance(part, Bottleneck)}
    return {
        name: {key: torch.from_numpy(array.copy()) for key, array in part.tables.to_arrays().items()}
        for name, part in named.items()
        if part.tables is not None
    }


@torch.no_grad()
def _load(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load every value in its place. Buffers may have grown since, as a density's tables do.

    Raises:
        RuntimeError: values that are not this model's.
    """
    own = model.state_dict()
    if set(own) != set(state):
        odd = sorted(set(own) ^ set(state))
        raise RuntimeError(f"a checkpoint does not fit its model: {', '.join(odd[:5])}")
    for name, value in state.items():
        if own[name].shape == value.shape:
            own[name].copy_(value)
            continue
        path, _, key = name.rpartition(".")
        owner = model.get_submodule(path)
        if key not in owner._buffers:
            raise RuntimeError(f"a checkpoint does not fit its model: {name}")
        owner._buffers[key] = value.to(own[name].device, copy=True)
