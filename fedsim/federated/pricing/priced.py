"""What is known of a method's rounds when they have been carried through virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.meter import Event

__all__ = ["EnergyUse", "PricedRound", "PricedRun"]


@dataclass(frozen=True)
class EnergyUse:
    """Joules of all clients together, above those of devices at rest whose radios sleep.

    Args:
        compute_j: of the processors; None where the powers of a device are not known.
        down_j: of the radios, to receive: waking them, bits, tails; None where a radio is not known.
        up_j: the same to send.
    """

    compute_j: float | None
    down_j: float | None
    up_j: float | None

    @property
    def total_j(self) -> float | None:
        """All of it; None where a part is not known."""
        if self.compute_j is None or self.down_j is None or self.up_j is None:
            return None
        return self.compute_j + self.down_j + self.up_j


@dataclass(frozen=True)
class PricedRound:
    """One round. Times count from the beginning of the first.

    Args:
        number: from 1.
        start_s: when the server sends.
        end_s: when it has merged what came back.
        straggler: partition whose reply was last; None where nobody trained.
        behind_s: by how much that was later than the median; None of the same.
        beyond: partitions whose work for the round takes longer than the deadline of the federation.
        down_bytes: on the links, headers included, what was repeated left out.
        up_bytes: the same.
        energy: that the round's work and messages took.
    """

    number: int
    start_s: float
    end_s: float
    straggler: int | None
    behind_s: float | None
    beyond: tuple[int, ...]
    down_bytes: int
    up_bytes: int
    energy: EnergyUse

    @property
    def duration_s(self) -> float:
        """From its begin to its end."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class PricedRun:
    """All rounds of a method, one behind the other.

    Args:
        rounds: in their order, at least one.
        rest_w: what all devices draw together at rest with their radios asleep; None where it is not known.
        promotion_j: of the radios' energy, what went into waking them; None where a radio is not known.
        tail_j: of the same, what went into tails, those behind the last round included.
        afterwards_j: of tails that are not over when the last round is; None of the same.
        notes: what is to be known of the figures, in words.
        events: of the ledger, ``modelled``.
    """

    rounds: Sequence[PricedRound]
    rest_w: float | None
    promotion_j: float | None
    tail_j: float | None
    afterwards_j: float | None
    notes: Sequence[str]
    events: Sequence[Event]

    @property
    def total_j(self) -> float | None:
        """Energy of all devices, tails behind the last round included; None where a part is not known."""
        spent = self.joules(len(self.rounds))
        return None if spent is None or self.afterwards_j is None else spent + self.afterwards_j

    def joules(self, rounds: int) -> float | None:
        """Energy of all devices until so many rounds are over, what they draw at rest included, also of those
        that had no part. None where a part of it is not known.

        A tail that lasts into the next round counts with the message ahead of it.
        """
        chosen = self.rounds[:rounds]
        spent = [one.energy.total_j for one in chosen]
        if self.rest_w is None or None in spent:
            return None
        return self.rest_w * chosen[-1].end_s + sum(value for value in spent if value is not None)
