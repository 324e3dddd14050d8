"""What is known of a round that is over."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedsim.federated.evaluation import Result

__all__ = ["Rejection", "RoundRecord"]


@dataclass(frozen=True)
class Rejection:
    """A client whose reply had no part in a round."""

    round: int
    partition: int
    reason: str


@dataclass(frozen=True)
class RoundRecord:
    """A round that is over.

    Args:
        number: from 1.
        cohort: partitions that were asked.
        merged: partitions whose replies were merged.
        lost: partitions that dropped out.
        rejected: partitions whose replies were refused, with the reasons.
        results: of the clients that were evaluated behind this round, by partition.
        late: partitions that missed the deadline, and by how many seconds.
        void: why replies could not be merged although there were some; empty where they were.
    """

    number: int
    cohort: tuple[int, ...]
    merged: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    results: dict[int, list[Result]] = field(default_factory=dict)
    late: dict[int, float] = field(default_factory=dict)
    void: str = ""
