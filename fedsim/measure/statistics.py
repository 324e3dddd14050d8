"""The statistics that a summary reports: percentiles, and the interval of an accuracy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["percentile", "wilson_interval"]

#: The 97.5 % point of the standard normal distribution: an interval that leaves 2.5 % at each end.
_Z95 = 1.959963984540054


def percentile(values: ArrayLike, p: float) -> float:
    """The ``p``-th percentile (0..100), linear between the two nearest values (NumPy's default)."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), p))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, JASA 22, 1927), within 0..1.

    Unlike the normal approximation it keeps its coverage near 0 and 1, where accuracies lie.

    Raises:
        ValueError: no trial, or more successes than trials.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(
            f"{correct} successes of {total} trials: expected 0 <= successes <= trials, trials >= 1"
        )
    p = correct / total
    scale = 1 + _Z95**2 / total
    centre = (p + _Z95**2 / (2 * total)) / scale
    half = _Z95 / scale * math.sqrt(p * (1 - p) / total + _Z95**2 / (4 * total**2))
    # At 0 and at `total` the bound is exact; rounding must not move it past the proportion itself.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return low, high
