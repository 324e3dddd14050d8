"""FedTGP: prototypes that the server trains to lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.prototypes import ClassStatistics
from fedsim.federated.distances import closest_gap, distances
from fedsim.federated.local import LocalTraining, Loss
from fedsim.federated.method import Client, State, register
from fedsim.federated.methods.fedproto import pulled_loss
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import Packet
from fedsim.federated.personal import PersonalModels, client_means
from fedsim.federated.site import Site

__all__ = ["FedTGP"]

_PROTOTYPES = "prototypes"


@register("fedtgp")
@dataclass(frozen=True)
class FedTGP(PersonalModels):
    """FedTGP: trainable global prototypes with an adaptive margin.

    Zhang et al.: "FedTGP: Trainable Global Prototypes with Adaptive-Margin-Enhanced Contrastive Learning for
    Data and Model Heterogeneity in Federated Learning", AAAI 2024. The server's prototypes ``T`` come of an
    embedding and two linear layers, which it trains on the clients' prototypes ``p`` of class y with ::

        CE(-[|p - T_c| + 1(c = y) min(gap, threshold)]_c, y)

    where ``gap`` is the largest distance from the clients' mean of a class to that next to it. Clients
    minimise ``CE(h(f(x)), y) + pull * MSE(f(x), T_y)``. As in the public code, a client's prototypes are of a
    pass behind its training (``features`` is ``eval``). The server trains on each of them alike;
    ``weighting`` is that of the clients' mean, from which the gap is measured.

    Args:
        pull: weight of the distance, lambda in the paper.
        threshold: largest margin, tau in the paper.
        server_epochs: passes over the clients' prototypes in a round.
        server_learning_rate: of the server's SGD.
        server_batch_size: prototypes a step.
    """

    together: ClassVar[bool] = True

    pull: float = 10.0
    threshold: float = 100.0
    server_epochs: int = 100
    server_learning_rate: float = 0.01
    server_batch_size: int = 10
    training: LocalTraining = field(default_factory=LocalTraining)
    features: Literal["train", "eval"] = "eval"

    def start(self, site: Site) -> State:
        """Untrained prototypes, of which nobody hears."""
        with torch.random.fork_rng():
            torch.manual_seed(site.seed)
            prototypes = _Trainable(site.classes, site.dimension)
        arrays = {name: value.numpy().copy() for name, value in prototypes.state_dict().items()}
        return State(arrays, {_PROTOTYPES: ClassStatistics.empty(site.dimension)})

    def down(self, site: Site, state: State) -> Packet:
        """The prototypes of the classes that clients have had."""
        return self.put(_PROTOTYPES, state.statistics[_PROTOTYPES], site)

    def loss(self, site: Site, client: Client, packet: Packet, network: PrototypeNetwork) -> Loss:
        """Cross-entropy and pull."""
        return pulled_loss(site, packet[_PROTOTYPES], self.codec(site), self.pull)

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, ClassStatistics]]) -> State:
        """Train the prototypes on those of this round's clients."""
        trainable = _Trainable(site.classes, site.dimension)
        trainable.load_state_dict({name: torch.tensor(value) for name, value in state.arrays.items()})
        points = torch.from_numpy(np.concatenate([found.means for _, found in updates])).float()
        owners = torch.from_numpy(np.concatenate([found.classes for _, found in updates]))
        gaps = closest_gap(torch.from_numpy(client_means(updates, self.weighting).means))
        gap = float(gaps[gaps.isfinite()].max()) if bool(gaps.isfinite().any()) else 0.0
        self._train(trainable, points, owners, min(gap, self.threshold), site.seed)
        known = np.union1d(state.statistics[_PROTOTYPES].known, owners.numpy())
        with torch.no_grad():
            vectors = trainable()[torch.from_numpy(known)].double().numpy()
        ones = np.ones(len(known), np.int64)
        arrays = {name: value.numpy() for name, value in trainable.state_dict().items()}
        return State(arrays, {_PROTOTYPES: ClassStatistics(known, ones - 1, ones, vectors)})

    def _train(self, trainable: _Trainable, points: Tensor, owners: Tensor, margin: float, seed: int) -> None:
        optimiser = torch.optim.SGD(trainable.parameters(), self.server_learning_rate)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.server_epochs):
            order = torch.randperm(len(points), generator=generator)
            for chosen in torch.split(order, self.server_batch_size):
                labels = owners[chosen]
                apart = distances(points[chosen], trainable())
                loss = F.cross_entropy(-(apart + margin * F.one_hot(labels, apart.shape[1])), labels)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()


class _Trainable(nn.Module):
    """Prototypes [classes, d] out of an embedding, through two linear layers."""

    def __init__(self, classes: int, dimension: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, dimension)
        self.layers = nn.Sequential(
            nn.Linear(dimension, dimension), nn.ReLU(), nn.Linear(dimension, dimension)
        )

    def forward(self) -> Tensor:
        """All of them."""
        prototypes: Tensor = self.layers(self.embedding.weight)
        return prototypes
