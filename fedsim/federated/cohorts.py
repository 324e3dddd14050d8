"""Which clients take part in a round, and which of them are lost on the way or late: drawn by partition.

Flower's node ids are random numbers, so what is drawn of them is another cohort in every run. A partition
is the same client everywhere; the server learns who has which by asking once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedsim.errors import FederationError

__all__ = ["Cohorts"]

_DRAW, _LOSS = 1, 2  # streams of random numbers, apart from each other


@dataclass(frozen=True)
class Cohorts:
    """Draws the clients of each round; the same seed gives the same ones on every engine.

    Stragglers are clients whose work takes longer than the deadline. How long it takes, a client measures
    itself, its own step alone; that times its slowness is how long it would take on a slower device. So it
    is the same notion of time on every engine, also where one processor plays all clients, one after the
    other. It stands for slow devices, not for liars: a client is believed. Real waiting is bounded apart
    from this, by :attr:`fedsim.federated.checks.Limits.reply_s`. What clients of one process have in common
    and compute once (:attr:`fedsim.federated.site.Site.together`) counts as the work of the first.

    Args:
        clients: how many there are.
        size: how many take part in a round.
        seed: of the run.
        dropout: probability that a client of a cohort does its work and is not heard of again.
        deadline_s: seconds that a client's step may take; a reply of one that took longer has no part in the
            round. None for no deadline.
        slowness: how many times longer than here a step takes on that client's device, by partition; 1 for
            those that are not named.

    Raises:
        FederationError: numbers out of bounds.
    """

    clients: int
    size: int
    seed: int
    dropout: float = 0.0
    deadline_s: float | None = None
    slowness: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.clients:
            raise FederationError(f"a cohort of {self.size} of {self.clients} clients")
        if not 0 <= self.dropout < 1:
            raise FederationError(f"dropout is {self.dropout}, allowed is 0 and more, less than 1")
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            raise FederationError(f"deadline_s is {self.deadline_s}, allowed is more than 0")
        for partition, times in self.slowness.items():
            if not 0 <= partition < self.clients:
                raise FederationError(f"slowness of client {partition}, clients are 0 to {self.clients - 1}")
            if not 0 < times < math.inf:
                raise FederationError(f"slowness of client {partition} is {times}, allowed is more than 0")

    def of_round(self, number: int) -> list[int]:
        """The partitions that take part in a round, ascending."""
        generator = np.random.default_rng([self.seed, _DRAW, number])
        return sorted(generator.choice(self.clients, self.size, replace=False).tolist())

    def lost(self, number: int) -> frozenset[int]:
        """The partitions of a round's cohort that drop out."""
        generator = np.random.default_rng([self.seed, _LOSS, number])
        fates = generator.random(self.clients) < self.dropout
        return frozenset(client for client in self.of_round(number) if fates[client])

    def late(self, partition: int, seconds: float) -> float:
        """By how many seconds a client misses the deadline; 0 where it does not.

        Args:
            partition: of the client.
            seconds: that its step took here.
        """
        if self.deadline_s is None:
            return 0.0
        return max(0.0, seconds * self.slowness.get(partition, 1.0) - self.deadline_s)
