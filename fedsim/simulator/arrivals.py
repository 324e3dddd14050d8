"""When a device has something to do: periodically, at random, by a list, or as soon as it has its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import SimulationError
from fedsim.simulator.kinds import first_lines, made

__all__ = ["Arrivals", "ClosedLoop", "Listed", "Periodic", "Poisson", "available", "from_options"]

Floats = NDArray[np.float64]


class Arrivals(Protocol):
    """A process that samples arrive by at one device."""

    @property
    def paused(self) -> bool:
        """Whether :meth:`times` are pauses behind the answer before, and no times."""

    def times(self, generator: np.random.Generator, until_s: float, most: int | None = None) -> Floats:
        """Times or pauses of the samples of a device, in order [s].

        Args:
            generator: the device's own.
            until_s: no time lies behind it.
            most: no more than so many; None for all until then.
        """


@dataclass(frozen=True)
class Periodic:
    """One sample every ``period_s`` seconds; the first at random within the first period, or at ``phase_s``.

    Raises:
        SimulationError: a period that is not more than 0, or a phase below 0.
    """

    period_s: float
    phase_s: float | None = None

    def __post_init__(self) -> None:
        _check_positive("period_s", self.period_s)
        if self.phase_s is not None and not 0 <= self.phase_s < float("inf"):
            raise SimulationError(f"arrivals: phase_s is {self.phase_s!r}, allowed is a number, 0 and more")

    @property
    def paused(self) -> bool:
        """No."""
        return False

    def times(self, generator: np.random.Generator, until_s: float, most: int | None = None) -> Floats:
        """``phase + n * period``."""
        phase = generator.random() * self.period_s if self.phase_s is None else self.phase_s
        count = _bounded(np.ceil((until_s - phase) / self.period_s), most, "period_s")
        return np.asarray(phase + np.arange(count) * self.period_s, np.float64)


@dataclass(frozen=True)
class Poisson:
    """Samples independent of each other, ``rate_hz`` a second in the mean.

    Raises:
        SimulationError: a rate that is not more than 0.
    """

    rate_hz: float

    def __post_init__(self) -> None:
        _check_positive("rate_hz", self.rate_hz)

    @property
    def paused(self) -> bool:
        """No."""
        return False

    def times(self, generator: np.random.Generator, until_s: float, most: int | None = None) -> Floats:
        """Sums of exponential gaps."""
        if not np.isfinite(until_s):
            count = _bounded(until_s, most, "rate_hz")
            return np.cumsum(generator.exponential(1 / self.rate_hz, count))
        # So many in the whole time, and where each lies: uniform, whatever the others do.
        found = np.sort(generator.random(generator.poisson(self.rate_hz * until_s))) * until_s
        return found if most is None else found[:most]


@dataclass(frozen=True)
class Listed:
    """Samples at given times, as of a recording.

    Args:
        at_s: times from the beginning of the run on, none before the one ahead of it.

    Raises:
        SimulationError: times that go back, or lie before the beginning.
    """

    at_s: tuple[float, ...]

    def __post_init__(self) -> None:
        times = np.asarray(self.at_s, np.float64)
        if times.ndim != 1 or not np.isfinite(times).all() or (times < 0).any() or (np.diff(times) < 0).any():
            raise SimulationError("arrivals: the times of a list have to be 0 or more, and never to go back")

    @property
    def paused(self) -> bool:
        """No."""
        return False

    def times(self, generator: np.random.Generator, until_s: float, most: int | None = None) -> Floats:
        """Those that there are."""
        times = np.asarray(self.at_s, np.float64)
        return times[times < until_s][:most]


@dataclass(frozen=True)
class ClosedLoop:
    """The next sample behind the answer to the one before it, after a pause.

    Args:
        pause_s: mean pause; 0 for none.
        random: exponential pauses; else all are alike.

    Raises:
        SimulationError: a pause below 0.
    """

    pause_s: float = 0.0
    random: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.pause_s < float("inf"):
            raise SimulationError(f"arrivals: pause_s is {self.pause_s!r}, allowed is a number, 0 and more")

    @property
    def paused(self) -> bool:
        """Yes."""
        return True

    def times(self, generator: np.random.Generator, until_s: float, most: int | None = None) -> Floats:
        """Pauses; as many as samples are asked for.

        Raises:
            SimulationError: nobody says how many.
        """
        if most is None:
            raise SimulationError("arrivals: a closed loop has no end; say how many samples there are")
        return generator.exponential(self.pause_s, most) if self.random else np.full(most, self.pause_s)


_KINDS: Mapping[str, type[Arrivals]] = {
    "closed": ClosedLoop,
    "periodic": Periodic,
    "poisson": Poisson,
    "listed": Listed,
}


def available() -> dict[str, str]:
    """Every kind's name, with the first line of its documentation."""
    return first_lines(_KINDS)


def from_options(options: Mapping[str, Any]) -> Arrivals:
    """Arrivals as a scenario names them: their ``kind``, and its options.

    ::

        {kind: poisson, rate_hz: 0.5}

    Raises:
        SimulationError: an unknown kind or option, one that is missing, or a value that is not allowed.
    """
    return made("arrivals", _KINDS, options)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise SimulationError(f"arrivals: {name} is {value!r}, allowed is a number, more than 0")


def _bounded(count: float, most: int | None, name: str) -> int:
    if most is not None:
        count = min(count, most)
    if not np.isfinite(count):
        raise SimulationError(f"arrivals: with {name} alone there is no end; say until when, or how many")
    return max(0, int(count))
