"""A time that grows by as much with each piece of work: ``t = a + b n``, fitted to what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.calibration.timing import Timing

__all__ = ["Line", "fit"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """A fitted line.

    Args:
        fixed: a, in seconds, 0 or more.
        each: b, in seconds, 0 or more.
        fixed_by_round: [rounds], the same fitted to each round alone.
        each_by_round: [rounds].
        residual: greatest distance of a measured time from the line, as part of that time.
    """

    fixed: float
    each: float
    fixed_by_round: Floats
    each_by_round: Floats
    residual: float


def fit(timings: Mapping[int, Timing]) -> Line:
    """Least squares of the *relative* distances, with neither coefficient below 0.

    Relative ones, because a distance of 10 us is nothing to the longest of the times and all of the shortest.

    Args:
        timings: by n; of at least two.

    Raises:
        ValueError: fewer.
    """
    if len(timings) < 2:
        raise ValueError(f"a line needs two sizes, got {list(timings)}")
    sizes = np.array(list(timings), dtype=np.float64)
    times = np.array([timing.seconds for timing in timings.values()])
    fixed, each = _least_squares(sizes, times)
    rounds = np.array(
        [_least_squares(sizes, row) for row in zip(*(t.minima for t in timings.values()), strict=True)]
    )
    residual = float(np.max(np.abs(fixed + each * sizes - times) / times))
    return Line(fixed, each, rounds[:, 0], rounds[:, 1], residual)


def _least_squares(sizes: Floats, times: NDArray[np.float64] | tuple[float, ...]) -> tuple[float, float]:
    weights = 1 / np.asarray(times, dtype=np.float64)
    columns = np.stack([weights, sizes * weights], axis=1)
    ones = np.ones_like(weights)
    fixed, each = np.linalg.lstsq(columns, ones, rcond=None)[0]
    if fixed < 0:
        fixed, each = 0.0, columns[:, 1] @ ones / (columns[:, 1] @ columns[:, 1])
    elif each < 0:
        fixed, each = columns[:, 0] @ ones / (columns[:, 0] @ columns[:, 0]), 0.0
    return float(fixed), float(each)
