"""How long the steps of a round's clients take, each on its device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedsim.federated.method import FederatedMethod
from fedsim.federated.pricing.messages import Exchange, RoundMessages
from fedsim.federated.pricing.premises import Premises
from fedsim.federated.site import Site

__all__ = ["Steps"]


class Steps:
    """The steps of a method's clients.

    Args:
        premises: the clients.
        site: of the run.
        method: that they follow.
        slowness: how many times longer than here a step takes, by partition, of clients without a device.
    """

    def __init__(
        self, premises: Premises, site: Site, method: FederatedMethod, slowness: Mapping[int, float]
    ) -> None:
        self._premises = premises
        self._site = site
        self._method = method
        self._slowness = slowness
        self._known: dict[tuple[int, int, int], float | None] = {}
        self._reasons: dict[str, None] = {}  # why steps take as long as on this machine
        self._timed = True

    def seconds(self, exchange: Exchange, round_: RoundMessages) -> NDArray[np.float64]:
        """Of each client of an exchange, [clients]; nothing where the clients do not train in it."""
        clients = exchange.clients.tolist()
        if not exchange.training or not clients:
            return np.zeros(len(clients))
        samples = [len(self._site.shares[client].samples(round_.number)) for client in clients]
        found = [self._modelled(client, count) for client, count in zip(clients, samples, strict=True)]
        if None in found:
            here = self._here(clients, samples, round_)
            found = [there if one is None else one for one, there in zip(found, here, strict=True)]
        return np.array(found, np.float64)

    def notes(self) -> Iterator[str]:
        """What is to be known of these times."""
        taken = (
            "take as long as on this machine" if self._timed else "are left out: nobody measured them here"
        )
        for reason in self._reasons:
            yield f"{reason}; its steps {taken}"

    def _modelled(self, client: int, samples: int) -> float | None:
        """On the client's device; None where that, or the work, is not known."""
        group = int(self._premises.group_of[client])
        roofline = self._premises.groups[group].roofline
        if roofline is None:
            self._reasons[f"fleet.{group} names no device"] = None
            return None
        key = (group, self._site.shares[client].network, samples)
        if key not in self._known:
            work = self._method.work(self._site, client, samples)
            self._known[key] = None if work is None else work.seconds(roofline)
        if self._known[key] is None:
            name = type(self._method).__name__
            self._reasons[f"{name} does not say what work a step is"] = None
        return self._known[key]

    def _here(self, clients: list[int], samples: list[int], round_: RoundMessages) -> list[float]:
        """As long as on this machine: of what all steps took together, the client's share by samples."""
        if round_.host_s is None:
            self._timed = False
            return [0.0] * len(clients)
        each = round_.host_s / max(1, sum(samples))
        return [
            each * count * self._slowness.get(client, 1.0)
            for client, count in zip(clients, samples, strict=True)
        ]
