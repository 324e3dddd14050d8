"""FedSA: anchors that do not depend on the data, for everybody to gather about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.federated.distances import closest_gap, distances
from fedsim.federated.local import Loss
from fedsim.federated.method import Client, State, register
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import ArraysCodec, Packet
from fedsim.federated.personal import PersonalModels, client_means
from fedsim.federated.site import Site

__all__ = ["FedSA"]

_ANCHORS, _PROTOTYPES = "anchors", "prototypes"


@register("fedsa")
@dataclass(frozen=True)
class FedSA(PersonalModels):
    """FedSA: semantic anchors, which pull features, push them apart by a margin, and calibrate the head.

    Zhou et al.: "FedSA: A Unified Representation Learning via Semantic Anchors for Prototype-based Federated
    Learning", AAAI 2025. With anchors A and ``gap`` the larger of the mean distances from one prototype to
    the next among the client's own and among the anchors, a client minimises ::

        CE(h(f(x)), y) + calibration * CE(h(A), classes) + pull * MSE(f(x), A_y)
            + margin * CE(-[|f(x) - A_c| + 1(c = y) gap]_c, y)

    The server averages the clients' prototypes, by which everybody predicts, and moves the anchors of the
    classes that it has seen to them a little: ``A_c <- decay A_c + (1 - decay) P_c``.

    Args:
        pull: weight of the anchor regularisation, lambda in the paper.
        margin: weight of the margin-enhanced contrast.
        calibration: weight of the calibration, which trains the head's rows of classes that a client lacks.
        decay: of the anchors' moving average.
    """

    pull: float = 10.0
    margin: float = 1.0
    calibration: float = 1.0
    decay: float = 0.9999

    @property
    def additive(self) -> bool:
        """Where clients are weighted by samples."""
        return self.weighting == "count"

    def start(self, site: Site) -> State:
        """Anchors of a random projection that is never trained; no prototypes."""
        empty = ClassStatistics.empty(site.dimension)
        return State({_ANCHORS: _first_anchors(site)}, {_PROTOTYPES: empty})

    def down(self, site: Site, state: State) -> Packet:
        """The anchors."""
        return Packet({_ANCHORS: self._anchors_codec(site).encode({_ANCHORS: state.arrays[_ANCHORS]})})

    def shared(self, site: Site, state: State) -> Packet:
        """The prototypes."""
        return self.put(_PROTOTYPES, state.statistics[_PROTOTYPES], site)

    def loss(self, site: Site, client: Client, packet: Packet, network: PrototypeNetwork) -> Loss:
        """Cross-entropy and the three terms of the anchors."""
        anchors = torch.tensor(self._anchors_codec(site).decode(packet[_ANCHORS])[_ANCHORS])
        classes = torch.arange(site.classes)
        gap = float(closest_gap(anchors).mean())
        if _PROTOTYPES in client.kept:
            own = StatisticsCodec(site.dimension, 64).decode(client.kept[_PROTOTYPES])
            if len(own) > 1:
                gap = max(gap, float(closest_gap(torch.from_numpy(own.means)).mean()))

        def loss(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
            contrast = distances(features, anchors) + gap * F.one_hot(labels, site.classes)
            return (
                F.cross_entropy(logits, labels)
                + self.calibration * F.cross_entropy(network.head(anchors), classes)
                + self.pull * F.mse_loss(features, anchors[labels])
                + self.margin * F.cross_entropy(-contrast, labels)
            )

        return loss

    def replied(self, site: Site, client: Client, statistics: ClassStatistics) -> Packet:
        """The client's statistics, which it keeps for its next margin."""
        client.kept[_PROTOTYPES] = StatisticsCodec(site.dimension, 64).encode(statistics).payload
        return super().replied(site, client, statistics)

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, ClassStatistics]]) -> State:
        """The clients' mean, and the anchors a little nearer to it."""
        fresh = client_means(updates, self.weighting)
        anchors = state.arrays[_ANCHORS].copy()
        moved = self.decay * anchors[fresh.classes] + (1 - self.decay) * fresh.means
        anchors[fresh.classes] = moved.astype(np.float32)
        before = state.statistics[_PROTOTYPES]
        others = before.of_classes([c for c in before.known if c not in fresh.known])
        return State({_ANCHORS: anchors}, {_PROTOTYPES: fresh + others})

    @staticmethod
    def _anchors_codec(site: Site) -> ArraysCodec:
        return ArraysCodec({_ANCHORS: ((site.classes, site.dimension), np.dtype("<f4"))})


@torch.no_grad()
def _first_anchors(site: Site) -> np.ndarray:  # type: ignore[type-arg]
    """``ReLU(BN(W2 ReLU(BN(W1 z))))`` of normal z [classes, d]: not negative, as features behind a ReLU."""
    dimension = site.dimension
    with torch.random.fork_rng():
        torch.manual_seed(site.seed)
        projection = nn.Sequential(
            nn.Linear(dimension, dimension),
            nn.BatchNorm1d(dimension),
            nn.ReLU(),
            nn.Linear(dimension, dimension),
            nn.BatchNorm1d(dimension),
            nn.ReLU(),
        ).train()
        anchors: Tensor = projection(torch.randn(site.classes, dimension))
    return anchors.numpy()
