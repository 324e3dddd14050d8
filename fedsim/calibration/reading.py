"""Numbers of a device file from what was measured, each with its range and how far it is to be trusted."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedsim.calibration.lines import Line
from fedsim.calibration.timing import quartiles, spread
from fedsim.hardware.quantity import UNITS, How, Quantity, Trust

__all__ = ["SOURCE", "counted", "line", "median", "quantity", "seconds"]

Floats = NDArray[np.float64]

#: How a number names what measured it.
SOURCE: Final = "fedsim calibrate"
_STEADY = 0.1  # spread up to which a number is trusted more
_DIGITS = 4


def quantity(
    value: float, bounds: tuple[float, float], unit: str, uncertainty: float, where: str
) -> Quantity:
    """A number that was measured.

    Args:
        value: in SI units.
        bounds: its range, in SI units, which is widened to hold it.
        unit: to write it in.
        uncertainty: of the number, as part of it. The trust is B up to a tenth, and C beyond.
        where: how it comes about.
    """
    range_ = (min(bounds[0], value), max(bounds[1], value))
    return _quantity(value, unit, where, "measured", "B" if uncertainty <= _STEADY else "C", range_)


def counted(macs: int, where: str) -> Quantity:
    """Work, which needs no measurement."""
    return _quantity(float(macs), "MMAC", where, "derived", "A", None)


def median(values: Floats, unit: str, where: str) -> Quantity:
    """The median of some values, in SI units, with their quartiles."""
    return quantity(float(np.median(values)), quartiles(values), unit, spread(values), where)


def seconds(times: Floats, where: str) -> Quantity:
    """The median of some times, in a unit that suits it."""
    return median(times, _unit(float(np.median(times))), where)


def line(fitted: Line, where: str) -> tuple[Quantity, Quantity]:
    """Both coefficients of a line, with the quartiles of those of each round alone."""
    fixed, each = (
        quantity(value, quartiles(rounds), _unit(value), max(spread(rounds), fitted.residual), where)
        for value, rounds in (
            (fitted.fixed, fitted.fixed_by_round),
            (fitted.each, fitted.each_by_round),
        )
    )
    return fixed, each


def _quantity(
    value: float, unit: str, where: str, how: How, trust: Trust, range_: tuple[float, float] | None
) -> Quantity:
    def shown(number: float) -> float:
        return float(f"{number / UNITS[unit].si:.{_DIGITS}g}")

    return Quantity(
        value=shown(value),
        unit=unit,
        range=None if range_ is None else (shown(range_[0]), shown(range_[1])),
        where=where,
        source=SOURCE,
        how=how,
        trust=trust,
        verified=True,
    )


def _unit(seconds: float) -> str:
    return "us" if seconds < 1e-3 else "ms" if seconds < 1 else "s"
