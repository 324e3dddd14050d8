"""What everybody in a federated run agrees on: data, who holds what, networks. Made once in a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedsim.data import Dataset
from fedsim.errors import FederationError
from fedsim.federated.networks import PrototypeNetwork, prototype_network
from fedsim.progress import Display
from fedsim.training.loop import as_input

__all__ = ["NetworkPlan", "Share", "Site", "features_of", "parameters_of"]

_CHUNK = 512  # images at a time
_REMEMBERED = 8  # results of Site.kept


@dataclass(frozen=True)
class NetworkPlan:
    """A network that clients have.

    Args:
        backbone: a name of :func:`edge.backbones.create`.
        arguments: of the backbone.
        dimension: of the prototype space; see :func:`fedsim.federated.networks.prototype_network`.
        cut: layer behind which a bottleneck stands; None for a network that is not split.
        bottleneck: its ``name`` and options there.
    """

    backbone: str
    arguments: dict[str, Any] = field(default_factory=dict)
    dimension: int | None = None
    cut: str | None = None
    bottleneck: dict[str, Any] | None = None

    def network(self, image_shape: Sequence[int], classes: int) -> PrototypeNetwork:
        """Make it, with weights of torch's global generator.

        Raises:
            ModelError: it cannot be made, or does not take the images.
        """
        return prototype_network(
            self.backbone,
            self.arguments,
            image_shape,
            classes,
            self.dimension,
            layer=self.cut,
            bottleneck=self.bottleneck,
        )


@dataclass(frozen=True)
class Share:
    """What one client holds.

    Args:
        rounds: its training samples, an entry for each round; a single entry stands for all rounds.
        test: its own test samples, of the training set too, and in no round.
        network: which of the site's networks it has.
    """

    rounds: tuple[NDArray[np.int64], ...]
    test: NDArray[np.int64]
    network: int = 0

    def samples(self, number: int) -> NDArray[np.int64]:
        """Its samples in a round, from 1; none where it has no part in it."""
        if len(self.rounds) == 1:
            return self.rounds[0]
        return self.rounds[number - 1] if number <= len(self.rounds) else self.rounds[0][:0]

    def seen(self, number: int) -> NDArray[np.int64]:
        """Its samples in all rounds up to this one."""
        parts = self.rounds if len(self.rounds) == 1 else self.rounds[:number]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Site:
    """A federated run, but for its method.

    Args:
        dataset: its training set is what clients hold; its test set is the global one.
        shares: of each client.
        networks: that clients have.
        base: samples of the training set that the server has itself, int64 [n].
        seed: of everything that is drawn.
        together: one process has all clients, so that what they have in common is computed once.
        display: shows how far long work of the server is, such as a pretraining.
    """

    dataset: Dataset
    shares: Sequence[Share]
    networks: Sequence[NetworkPlan]
    base: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    seed: int = 0
    together: bool = True
    display: Display = field(default_factory=lambda: Display(quiet=True), repr=False)
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        dimensions = {self.network(number).dimension for number in range(len(self.networks))}
        if len(dimensions) != 1:
            found = ", ".join(map(str, sorted(dimensions)))
            raise FederationError(f"networks of different prototype dimensions ({found}); set one for all")

    @property
    def clients(self) -> int:
        """How many."""
        return len(self.shares)

    @property
    def classes(self) -> int:
        """Of the data set."""
        return self.dataset.classes

    @property
    def dimension(self) -> int:
        """Of the prototype space."""
        return self.network(0).dimension

    @property
    def images(self) -> Tensor:
        """Of the training set, uint8 [N, C, H, W]."""
        return torch.from_numpy(self.dataset.x_train)

    @property
    def labels(self) -> Tensor:
        """Of the training set, int64 [N]."""
        return torch.from_numpy(self.dataset.y_train)

    def network(self, number: int) -> PrototypeNetwork:
        """A network with its first weights: the same object every time; whoever needs others, loads them.

        All clients of a process work with this one, one after the other: a copy for each of a thousand
        would take gigabytes.
        """
        key = ("network", number)
        if key not in self._made:
            self._made[key] = self._fresh(number)
        made: PrototypeNetwork = self._made[key]
        return made

    def first(self, number: int, of: Callable[[PrototypeNetwork], Any]) -> Any:
        """What a function says of a network with its first weights, whatever it holds by now; asked once."""
        key = ("first", number)
        if key not in self._made:
            self._made[key] = of(self._fresh(number))
        return self._made[key]

    def _fresh(self, number: int) -> PrototypeNetwork:
        plan = self.networks[number]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return plan.network(self.dataset.image_shape, self.classes)

    def kept(self, key: Any, make: Any) -> Any:
        """What ``make()`` gives, made once in this process: the keys last asked for are remembered."""
        remembered: dict[Any, Any] = self._made.setdefault("kept", {})
        found = remembered.pop(key) if key in remembered else make()
        while len(remembered) >= _REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[key] = found
        return found


@torch.no_grad()
def features_of(network: PrototypeNetwork, images: Tensor) -> Tensor:
    """Points of the prototype space, float32 [n, d], for images uint8 [n, C, H, W]; in evaluation mode."""
    network.eval()
    parts = [
        network.features(as_input(images[start : start + _CHUNK])) for start in range(0, len(images), _CHUNK)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, network.dimension)


def parameters_of(module: nn.Module) -> dict[str, NDArray[Any]]:
    """All values of a module, buffers too, by name."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
