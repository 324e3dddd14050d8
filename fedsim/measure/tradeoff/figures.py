"""The figures of a sweep, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedsim.measure.bjontegaard import Curve
from fedsim.measure.tradeoff.points import Point

__all__ = ["Comparison", "Estimate", "LabelFigures", "Part", "Tradeoff", "seeds_in_words"]

#: Whole payloads, or without what is the same in all of them.
Part = Literal["payload", "content"]


@dataclass(frozen=True)
class LabelFigures:
    """One method: its means over the seeds, and where they stand among the others."""

    family: str
    label: str
    learned: bool
    rate: float | None
    level: int | None
    cut: str
    local: bool
    seeds: tuple[int, ...]
    samples: int  #: of the test set; where seeds differ, the least
    payload_bytes: float
    payload_interval: tuple[float, float] | None  #: 95 %, over seeds, not below 0; None with one seed
    constant_bytes: float
    content_bytes: float  #: payload without the constant part
    accuracy: float
    accuracy_interval: tuple[float, float]  #: 95 %, within 0..1
    interval_over: Literal["seeds", "test set"]  #: Student's t over seeds; with one seed Wilson's
    head_macs: int
    head_parameters: int
    on_curve: bool  #: whether the curve of its family runs through it
    front: bool  #: on the Pareto front of (bytes, accuracy); of local methods never
    front_with_macs: bool  #: on the Pareto front of (bytes, accuracy, head MACs), local methods included


@dataclass(frozen=True)
class Estimate:
    """A difference of two curves: its mean over the seeds in which both are known."""

    mean: float | None  #: None where no seed gives one
    interval: tuple[float, float] | None  #: 95 %, Student's t over seeds; None with fewer than two
    sign_p: float | None  #: two-sided sign test over seeds that there is a difference
    common: tuple[float, float] | None  #: range that it is the mean over: ends, averaged over seeds
    by_seed: Mapping[int, float]
    reasons: Mapping[int, str]  #: why a seed gives none

    @property
    def reason(self) -> str | None:
        """In words why there is no figure, or in which seeds there is none."""
        kinds: dict[str, list[int]] = {}
        for seed, text in self.reasons.items():
            kinds.setdefault(text.partition(": ")[0], []).append(seed)
        parts = []
        for kind, seeds in kinds.items():
            detail = self.reasons[seeds[0]].partition(": ")[2]
            who = f"{seeds_in_words(seeds)}: " if self.by_seed or len(kinds) > 1 else ""
            such_as = f"seed {seeds[0]}: " if len(seeds) > 1 else ""
            parts.append(f"{who}{kind}" + (f" ({such_as}{detail})" if detail else ""))
        return "; ".join(parts) or None


@dataclass(frozen=True)
class Comparison:
    """A family against the anchor."""

    family: str
    part: Part
    rate: Estimate  #: BD-rate, % of bytes at equal accuracy; ``common`` is of accuracy, 0..1
    accuracy: Estimate  #: points of accuracy at equal bytes; ``common`` is of bytes


@dataclass(frozen=True)
class Tradeoff:
    """The figures of a sweep."""

    anchor: str | None  #: None where no family is a curve
    seeds: tuple[int, ...]
    labels: tuple[LabelFigures, ...]  #: anchor, learned, other curves, single points, local; then by size
    comparisons: tuple[Comparison, ...]  #: of every other family that sends, in the order of the labels
    notes: tuple[str, ...]  #: what a reader has to know of the figures
    points: tuple[Point, ...]  #: what all of it was computed from

    @property
    def families(self) -> tuple[str, ...]:
        """Of what sends, in the order of the labels."""
        return tuple(dict.fromkeys(one.family for one in self.labels if not one.local))

    def curve(self, family: str, seed: int | None = None, part: Part = "payload") -> Curve:
        """Accuracy against bytes of a family; of one seed, or of the means over seeds.

        Raises:
            ValueError: no such family, or it has no point (of this seed) of more than 0 bytes.
        """
        if family not in self.families:
            raise ValueError(f"no family {family!r}; there are {', '.join(self.families) or 'none'}")
        on_curve = [one for one in self.labels if one.family == family and one.on_curve]
        names = {one.label for one in on_curve}
        found: Sequence[LabelFigures | Point] = on_curve
        if seed is not None:
            found = [point for point in self.points if point.label in names and point.seed == seed]
        pairs = [
            (one.payload_bytes if part == "payload" else one.content_bytes, one.accuracy) for one in found
        ]
        pairs = [pair for pair in pairs if pair[0] > 0]
        if not pairs:
            of_seed = "" if seed is None else f" of seed {seed}"
            raise ValueError(f"{family} has no point{of_seed} of more than 0 bytes")
        return Curve.through(pairs)


def seeds_in_words(seeds: Sequence[int]) -> str:
    """``seed 1`` or ``seeds 1, 2``."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
