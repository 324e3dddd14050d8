"""The figures of a comparison. An error is the prediction's: positive where it says too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.meter import Provenance
from fedsim.compare.intervals import Interval
from fedsim.compare.ledger import Floats

__all__ = [
    "FIGURES",
    "Answers",
    "Carried",
    "Comparison",
    "Figure",
    "Joules",
    "MethodComparison",
    "Size",
    "Spread",
    "Timing",
    "relative",
]

Figure = Literal["mean", "p50", "p95"]
_ROUNDING = 1e-9  # of sums, so that a constant is within an interval of no length

FIGURES: tuple[Figure, ...] = ("mean", "p50", "p95")


def relative(simulated: float, measured: float) -> float | None:
    """The error of a prediction as a share of what was measured; None where only that is 0."""
    if measured == 0:
        return 0.0 if simulated == 0 else None
    return (simulated - measured) / measured


@dataclass(frozen=True)
class Spread:
    """Milliseconds of a stage, over the samples that ended well."""

    mean: float
    p50: float
    p95: float


@dataclass(frozen=True)
class Timing:
    """One stage of a method.

    Args:
        stage: one of :data:`edge.meter.STAGES`, or ``response``: from when a sample was due to its end.
        simulated: the prediction.
        measured: what it is held against.
        intervals: 95 % intervals of what was measured, of ``mean`` and ``p95``; empty of too few readings.
        provenance: of the simulated and the measured durations.
        slight: whether the error is below one per cent of the measured mean total.
    """

    stage: str
    simulated: Spread
    measured: Spread
    intervals: Mapping[Figure, Interval]
    provenance: tuple[Provenance, Provenance]
    slight: bool

    def error(self, figure: Figure) -> float | None:
        """Relative error of the prediction."""
        return relative(getattr(self.simulated, figure), getattr(self.measured, figure))

    def error_interval(self, figure: Figure) -> Interval | None:
        """Between which the relative error lies, by the noise of what was measured."""
        if figure not in self.intervals:
            return None
        low, high = self.intervals[figure]
        simulated = getattr(self.simulated, figure)
        below, above = relative(simulated, high), relative(simulated, low)
        return None if below is None or above is None else (below, above)

    def within_noise(self, figure: Figure) -> bool | None:
        """Whether the prediction lies in the interval of what was measured; None without one."""
        if figure not in self.intervals:
            return None
        low, high = self.intervals[figure]
        rounding = _ROUNDING * high
        return bool(low - rounding <= getattr(self.simulated, figure) <= high + rounding)


@dataclass(frozen=True)
class Size:
    """Bytes at one level, sample by sample, of those that both runs sent and counted.

    Args:
        level: ``ideal``, ``payload`` or ``frame``.
        samples: how many there are.
        equal: in how many both say the same; ``ideal`` to within a bit.
        largest: largest difference of a sample, bytes.
        largest_error: largest difference as a share of what was measured of the sample; infinite where that
            is 0.
        simulated: mean, bytes.
        measured: mean, bytes.
    """

    level: str
    samples: int
    equal: int
    largest: float
    largest_error: float
    simulated: float
    measured: float


@dataclass(frozen=True)
class Carried:
    """Mean bytes of a sample on the network; None where a run has not counted them.

    Args:
        level: ``wire`` and ``reply``, of the samples themselves in either direction; ``stream``, all towards
            the server.
        simulated: of the samples that the server answered.
        measured: likewise.
    """

    level: str
    simulated: float | None
    measured: float | None


@dataclass(frozen=True)
class Joules:
    """Energy of a stage, over the samples that ended well: J each. Where both runs know it."""

    stage: str
    simulated: float
    measured: float
    provenance: tuple[Provenance, Provenance]

    @property
    def error(self) -> float | None:
        """Relative error of the prediction."""
        return relative(self.simulated, self.measured)


@dataclass(frozen=True)
class Answers:
    """What became of the samples that ended in both runs.

    Args:
        samples: of these numbers.
        predicted: those that have a prediction in both.
        alike: of these, those that have the same.
        other_labels: samples whose true classes differ, so that they are not the same samples.
        simulated_accuracy: share told rightly; a failed one is wrong. None without labels.
        measured_accuracy: likewise.
    """

    samples: int
    predicted: int
    alike: int
    other_labels: int
    simulated_accuracy: float | None
    measured_accuracy: float | None


@dataclass(frozen=True)
class MethodComparison:
    """One method in both runs.

    Args:
        method: its name.
        outcomes: samples by outcome, of the simulated and the measured run.
        timings: by stage; empty where no sample ended well in one of the runs.
        sizes: by level.
        carried: by level; those that a run has counted.
        joules: by stage; those that both know.
        answers: of the samples in common.
        totals_ms: of the simulated and the measured run, sorted: what the distributions are drawn from.
    """

    method: str
    outcomes: tuple[Mapping[str, int], Mapping[str, int]]
    timings: Mapping[str, Timing]
    sizes: Mapping[str, Size]
    carried: Mapping[str, Carried]
    joules: Mapping[str, Joules]
    answers: Answers
    totals_ms: tuple[Floats, Floats]


@dataclass(frozen=True)
class Comparison:
    """Two runs, method by method, and what is to be known beside the figures."""

    simulated: Path
    measured: Path
    methods: tuple[MethodComparison, ...]
    notes: tuple[str, ...]
