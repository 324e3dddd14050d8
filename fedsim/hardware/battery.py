"""How long a battery lasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Battery"]

_J_PER_MAH_V = 3.6  # 1 mAh = 3.6 C


@dataclass(frozen=True, slots=True)
class Battery:
    """A store of energy that gives all of it, at any power: no ageing, no cold, no voltage sag.

    Args:
        joules: that it holds.

    Raises:
        ValueError: a capacity that is not above 0.
    """

    joules: float

    def __post_init__(self) -> None:
        if not 0 < self.joules < math.inf:
            raise ValueError(f"joules is {self.joules}, and has to be more than 0")

    @classmethod
    def from_charge(cls, mah: float, volts: float) -> Battery:
        """The battery of a charge in milliampere-hours at its nominal voltage: ``3.6 mAh V`` joules.

        Raises:
            ValueError: one of them not above 0.
        """
        for key, value in (("mah", mah), ("volts", volts)):
            if not 0 < value < math.inf:
                raise ValueError(f"{key} is {value}, and has to be more than 0")
        return cls(_J_PER_MAH_V * mah * volts)

    def lifetime(self, mean_w: float) -> float:
        """Seconds until it is empty at a mean power in watts; infinite at 0 W."""
        if not 0 <= mean_w < math.inf:
            raise ValueError(f"mean_w is {mean_w}, and has to be 0 or more")
        return self.joules / mean_w if mean_w > 0 else math.inf

    def depletion(self, seconds: ArrayLike, watts: ArrayLike, *, repeat: bool = False) -> float:
        """Seconds until it is empty under a power that is constant by pieces; infinite if it never is.

        Args:
            seconds: [K], how long each piece lasts.
            watts: [K], the power over it.
            repeat: whether the pieces follow one another for ever (a duty cycle); otherwise nothing is
                drawn behind the last.

        Raises:
            ValueError: arrays of different lengths, of none, or with a value below 0.
        """
        pieces, powers = np.asarray(seconds, dtype=np.float64), np.asarray(watts, dtype=np.float64)
        if pieces.ndim != 1 or pieces.shape != powers.shape or not pieces.size:
            raise ValueError(
                f"seconds {pieces.shape} and watts {powers.shape} have to be one value each for every piece"
            )
        for key, values in (("seconds", pieces), ("watts", powers)):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ValueError(f"{key} have to be 0 or more, got {values.tolist()}")
        drawn = np.cumsum(pieces * powers)
        joules, before = self.joules, 0.0
        if repeat and 0 < drawn[-1] < joules:
            # One cycle less than it stands, so that the last is searched piece by piece.
            cycle = float(drawn[-1])
            cycles = math.ceil(joules / cycle) - 1
            if joules - cycles * cycle <= 0:  # rounding
                cycles -= 1
            joules, before = min(joules - cycles * cycle, cycle), cycles * float(pieces.sum())
        if drawn[-1] < joules:
            return math.inf
        piece = int(np.searchsorted(drawn, joules))
        spent = float(drawn[piece - 1]) if piece else 0.0
        return before + float(pieces[:piece].sum()) + (joules - spent) / float(powers[piece])
