"""When a device is there: always, in turns, at random, or as somebody noted it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import SimulationError
from fedsim.simulator.kinds import first_lines, made

__all__ = ["Availability", "Churn", "Shifts", "Spans", "available", "from_options", "present"]

Floats = NDArray[np.float64]


class Availability(Protocol):
    """Says when one device is there."""

    def spans(self, generator: np.random.Generator, until_s: float) -> Floats:
        """Spans [n, 2] of time [s], each without its end, in order, none touching the next.

        Args:
            generator: the device's own.
            until_s: no span begins behind it.
        """


@dataclass(frozen=True)
class Shifts:
    """There for ``on_s`` seconds, away for ``off_s``, and so on, as by day and night.

    Args:
        on_s: that it is there.
        off_s: that it is away.
        phase_s: seconds that it has been there at the beginning; None for one at random in each device.

    Raises:
        SimulationError: times that are not more than 0.
    """

    on_s: float
    off_s: float
    phase_s: float | None = None

    def __post_init__(self) -> None:
        _check(on_s=self.on_s, off_s=self.off_s)

    def spans(self, generator: np.random.Generator, until_s: float) -> Floats:
        """On from ``n (on + off) - phase`` on."""
        turn = self.on_s + self.off_s
        phase = generator.random() * turn if self.phase_s is None else self.phase_s % turn
        begin = np.arange(-phase, until_s, turn)
        return _within(np.stack([begin, begin + self.on_s], 1))


@dataclass(frozen=True)
class Churn:
    """Comes and goes at random: a Markov chain of two states, that begins as it is in the long run.

    Args:
        mean_on_s: mean time that it is there.
        mean_off_s: mean time that it is away.

    Raises:
        SimulationError: times that are not more than 0.
    """

    mean_on_s: float
    mean_off_s: float

    def __post_init__(self) -> None:
        _check(mean_on_s=self.mean_on_s, mean_off_s=self.mean_off_s)

    def spans(self, generator: np.random.Generator, until_s: float) -> Floats:
        """Exponential times in turn."""
        share = self.mean_on_s / (self.mean_on_s + self.mean_off_s)
        at = 0.0 if generator.random() < share else float(generator.exponential(self.mean_off_s))
        found = []
        while at < until_s:
            gone = at + float(generator.exponential(self.mean_on_s))
            found.append((at, gone))
            at = gone + float(generator.exponential(self.mean_off_s))
        return np.asarray(found, np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Spans:
    """As it was noted.

    Args:
        on: pairs of a beginning and an end [s].

    Raises:
        SimulationError: pairs that are none, or not in order.
    """

    on: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        times = np.asarray(self.on, np.float64)
        ordered = times.size == 0 or (
            times.ndim == 2 and times.shape[1] == 2 and (np.diff(times.ravel()) > 0).all()
        )
        if not ordered or not np.isfinite(times).all():
            raise SimulationError("availability: spans have to be pairs of times that always increase")

    def spans(self, generator: np.random.Generator, until_s: float) -> Floats:
        """Those that begin in time."""
        times = np.asarray(self.on, np.float64).reshape(-1, 2)
        return _within(times[times[:, 0] < until_s])


_KINDS: Mapping[str, type[Availability]] = {"shifts": Shifts, "churn": Churn, "spans": Spans}


def available() -> dict[str, str]:
    """Every kind's name, with the first line of its documentation."""
    return first_lines(_KINDS)


def from_options(options: Mapping[str, Any]) -> Availability:
    """An availability as a scenario names it: its ``kind``, and its options.

    ::

        {kind: churn, mean_on_s: 600, mean_off_s: 60}

    Raises:
        SimulationError: an unknown kind or option, one that is missing, or a value that is not allowed.
    """
    return made("availability", _KINDS, options)


def present(spans: Floats, times: Floats) -> NDArray[np.bool_]:
    """Which of some times lie in one of the spans [n, 2]."""
    place = np.searchsorted(spans[:, 0], times, side="right") - 1
    inside: NDArray[np.bool_] = (place >= 0) & (times < np.append(spans[:, 1], -np.inf)[place])
    return inside


def _within(spans: Floats) -> Floats:
    """Without what lies before the beginning."""
    return np.maximum(spans[spans[:, 1] > 0], 0.0)


def _check(**times: float) -> None:
    for name, value in times.items():
        if not 0 < value < float("inf"):
            raise SimulationError(f"availability: {name} is {value!r}, allowed is a number, more than 0")
