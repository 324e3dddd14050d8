"""Training alone: what every federated result has to be held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edge.prototypes import ClassStatistics
from fedsim.federated.local import Loss, cross_entropy
from fedsim.federated.method import Client, State, register
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import Packet
from fedsim.federated.personal import PersonalModels
from fedsim.federated.site import Site

__all__ = ["Local"]


@register("local")
@dataclass(frozen=True)
class Local(PersonalModels):
    """Local training: every client by itself; nothing is sent."""

    together: ClassVar[bool] = True

    def start(self, site: Site) -> State:
        """Nothing."""
        return State()

    def down(self, site: Site, state: State) -> Packet:
        """Nothing."""
        return Packet()

    def loss(self, site: Site, client: Client, packet: Packet, network: PrototypeNetwork) -> Loss:
        """Cross-entropy."""
        return cross_entropy

    def replied(self, site: Site, client: Client, statistics: ClassStatistics) -> Packet:
        """Nothing."""
        return Packet()

    def receive(self, site: Site, packet: Packet) -> ClassStatistics:
        """Nothing."""
        return ClassStatistics.empty(site.dimension)

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, ClassStatistics]]) -> State:
        """Nothing."""
        return state
