"""FedProto: models of their own, held together by the prototypes of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.federated.local import LocalTraining, Loss, cross_entropy
from fedsim.federated.method import Client, State, register
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import Packet
from fedsim.federated.personal import PersonalModels, client_means
from fedsim.federated.site import Site

__all__ = ["FedProto", "pulled_loss", "pulled_to"]

_PROTOTYPES = "prototypes"


@register("fedproto")
@dataclass(frozen=True)
class FedProto(PersonalModels):
    """FedProto: cross-entropy, and a pull of features to their class's prototype.

    Tan et al.: "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022. Client:
    ``CE(h(f(x)), y) + pull * MSE(f(x), P_y)`` where y has a prototype; server: the mean of the clients'
    means. The paper weighs them by samples and its code does not; see ``weighting``.

    Args:
        pull: weight of the distance, lambda in the paper: 1, and 0.1 for CIFAR-10.
    """

    together: ClassVar[bool] = True

    pull: float = 1.0
    training: LocalTraining = field(default_factory=lambda: LocalTraining(momentum=0.5, batch_size=32))

    @property
    def additive(self) -> bool:
        """Where clients are weighted by samples."""
        return self.weighting == "count"

    def start(self, site: Site) -> State:
        """No prototypes."""
        return State(statistics={_PROTOTYPES: ClassStatistics.empty(site.dimension)})

    def down(self, site: Site, state: State) -> Packet:
        """The prototypes."""
        return self.put(_PROTOTYPES, state.statistics[_PROTOTYPES], site)

    def loss(self, site: Site, client: Client, packet: Packet, network: PrototypeNetwork) -> Loss:
        """Cross-entropy and pull."""
        return pulled_loss(site, packet[_PROTOTYPES], self.codec(site), self.pull)

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, ClassStatistics]]) -> State:
        """Those of this round's clients; a class that none of them has keeps what it had."""
        fresh = client_means(updates, self.weighting)
        before = state.statistics[_PROTOTYPES]
        others = before.of_classes([c for c in before.known if c not in fresh.known])
        return State(statistics={_PROTOTYPES: fresh + others})


def pulled_loss(site: Site, prototypes: bytes, codec: StatisticsCodec, weight: float) -> Loss:
    """Cross-entropy, and ``weight`` times the distance from the prototypes in a message.

    Clients with the same message have the same loss, and it is made once.
    """

    def made() -> Loss:
        pull = pulled_to(codec.decode(prototypes), site.classes)
        return lambda features, logits, labels: (
            cross_entropy(features, logits, labels) + weight * pull(features, labels)
        )

    loss: Loss = site.kept(("pulled", prototypes, codec, weight), made)
    return loss


class pulled_to:  # noqa: N801  a function with tables
    """Mean squared distance of features from their class's prototype, over all samples of a batch.

    A sample whose class has no prototype counts as one that lies on it, as in the public code.
    """

    def __init__(self, prototypes: ClassStatistics, classes: int) -> None:
        self._vectors = torch.zeros(classes, prototypes.dimension)
        self._known = torch.zeros(classes)
        self._vectors[prototypes.classes] = torch.from_numpy(prototypes.means).float()
        self._known[prototypes.classes] = 1.0

    def __call__(self, features: Tensor, labels: Tensor) -> Tensor:
        """A scalar, of features [n, d] and labels [n]."""
        apart = (features - self._vectors[labels]).square().mean(1)
        return (apart * self._known[labels]).mean()
