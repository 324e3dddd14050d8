"""A candidate with what it costs on a fleet, and the quantities that goals are about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedsim.planning.candidates import Candidate
from fedsim.planning.prediction import Costs

__all__ = ["ACCURACY", "QUANTITIES", "Quantity", "Setting"]


@dataclass(frozen=True)
class Setting:
    """A candidate on the fleet of a scenario."""

    candidate: Candidate
    costs: Costs

    @property
    def name(self) -> str:
        """The candidate's."""
        return self.candidate.name

    @property
    def accuracy(self) -> float:
        """0..1; a sample that fails on the fleet counts as wrong."""
        return self.candidate.accuracy * (1 - self.costs.failed)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 %, of the same."""
        low, high = self.candidate.accuracy_interval
        return low * (1 - self.costs.failed), high * (1 - self.costs.failed)


@dataclass(frozen=True)
class Quantity:
    """What a goal can bound, or ask to be least.

    Every quantity is a cost: of the accuracy it is the error, the share told wrong.
    """

    title: str  #: as it is shown
    option: str  #: of the command line, that bounds it
    read: Callable[[Setting], float | None]  #: None where it is not known
    show: Callable[[float], str]  #: a value, with its unit

    def bound(self, most: float) -> str:
        """``accuracy at least 90 %``, ``payload at most 100 B``."""
        if self.title == ACCURACY:
            return f"{self.title} at least {100 * (1 - most):g} %"
        return f"{self.title} at most {self.show(most)}"

    @property
    def extreme(self) -> str:
        """What is asked for where nothing bounds it: ``highest accuracy``, ``lowest payload``."""
        return f"{'highest' if self.title == ACCURACY else 'lowest'} {self.title}"


#: Title of the one quantity that is shown as a benefit.
ACCURACY = "accuracy"


def _digits(value: float) -> str:
    """Three significant digits, or all in front of the point."""
    if value < 0.995:
        return f"{value:.3g}"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _joules(value: float) -> str:
    for prefix, scale in (("", 1.0), ("m", 1e-3), ("µ", 1e-6)):
        if value >= 0.9995 * scale:
            return f"{_digits(value / scale)} {prefix}J"
    return f"{_digits(value / 1e-9)} nJ" if value else "0 J"


#: By name, in the order in which they are shown.
QUANTITIES = {
    "error": Quantity(
        ACCURACY, "--accuracy", lambda one: 1 - one.accuracy, lambda value: f"{100 * (1 - value):.2f} %"
    ),
    "joules": Quantity("energy", "--joules", lambda one: one.costs.joules, _joules),
    "latency-p50": Quantity(
        "median latency", "--latency-ms", lambda one: one.costs.latency_p50_ms, lambda ms: f"{_digits(ms)} ms"
    ),
    "latency-p95": Quantity(
        "p95 latency", "--latency-ms", lambda one: one.costs.latency_p95_ms, lambda ms: f"{_digits(ms)} ms"
    ),
    "bytes": Quantity(
        "payload", "--bytes", lambda one: one.candidate.payload_bytes, lambda size: f"{_digits(size)} B"
    ),
    "wire-bytes": Quantity(
        "wire bytes", "--wire-bytes", lambda one: one.costs.wire_bytes, lambda size: f"{_digits(size)} B"
    ),
}
