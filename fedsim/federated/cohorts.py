"""Which clients take part in a round, and which of them are lost on the way: drawn by partition.

Flower's node ids are random numbers, so what is drawn of them is another cohort in every run. A partition
is the same client everywhere; the server learns who has which by asking once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsim.errors import FederationError

__all__ = ["Cohorts"]

_DRAW, _LOSS = 1, 2  # streams of random numbers, apart from each other


@dataclass(frozen=True)
class Cohorts:
    """Draws the clients of each round; the same seed gives the same ones on every engine.

    Args:
        clients: how many there are.
        size: how many take part in a round.
        seed: of the run.
        dropout: probability that a client of a cohort does its work and is not heard of again.

    Raises:
        FederationError: numbers out of bounds.
    """

    clients: int
    size: int
    seed: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.clients:
            raise FederationError(f"a cohort of {self.size} of {self.clients} clients")
        if not 0 <= self.dropout < 1:
            raise FederationError(f"dropout is {self.dropout}, allowed is 0 and more, less than 1")

    def of_round(self, number: int) -> list[int]:
        """The partitions that take part in a round, ascending."""
        generator = np.random.default_rng([self.seed, _DRAW, number])
        return sorted(generator.choice(self.clients, self.size, replace=False).tolist())

    def lost(self, number: int) -> frozenset[int]:
        """The partitions of a round's cohort that drop out."""
        generator = np.random.default_rng([self.seed, _LOSS, number])
        fates = generator.random(self.clients) < self.dropout
        return frozenset(client for client in self.of_round(number) if fates[client])
