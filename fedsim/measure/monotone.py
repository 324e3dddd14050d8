"""Monotone curves through points: isotonic regression, and cubics that do not overshoot."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

__all__ = ["MonotoneCubic", "isotonic", "mean_over"]


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to ``values`` in the weighted sum of squares.

    Where a value falls below an earlier one, both become their mean, with whatever else they then
    contradict (pool adjacent violators: Ayer et al., Annals of Mathematical Statistics 26, 1955).
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        mean, total, length = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            other, other_total, other_length = blocks.pop()
            # Between its two parts even after rounding; and unchanged where they are equal.
            mean = mean + (other - mean) * (other_total / (total + other_total))
            total, length = total + other_total, length + other_length
        blocks.append((mean, total, length))
    return [mean for mean, _, length in blocks for _ in range(length)]


class MonotoneCubic:
    """Piecewise cubic through points, monotone wherever the points are (PCHIP).

    Slopes are the weighted harmonic means of Fritsch and Butland (SIAM J. Sci. Stat. Comput. 5, 1984),
    at the ends the three-point formula, limited so that it keeps the shape. Two points give a straight
    line.

    Args:
        x: strictly increasing, at least two.
        y: as many.

    Raises:
        ValueError: fewer than two points, or ``x`` does not increase.
    """

    def __init__(self, x: Sequence[float], y: Sequence[float]) -> None:
        if len(x) != len(y) or len(x) < 2 or any(b <= a for a, b in pairwise(x)):
            raise ValueError(
                f"needs at least two points of strictly increasing x, got x {list(x)} and y {list(y)}"
            )
        self.x, self.y = tuple(x), tuple(y)
        self._slopes = _slopes(self.x, self.y)

    def __call__(self, at: float) -> float:
        """The value at a point from the first ``x`` to the last.

        Raises:
            ValueError: the point lies outside; nothing is extrapolated.
        """
        if not self.x[0] <= at <= self.x[-1]:
            raise ValueError(f"{at} is outside {self.x[0]}..{self.x[-1]}")
        i = min(bisect_right(self.x, at), len(self.x) - 1) - 1
        width = self.x[i + 1] - self.x[i]
        t = (at - self.x[i]) / width
        u = 1 - t
        low, high = self.y[i], self.y[i + 1]
        value = (
            low
            + (high - low) * t * t * (3 - 2 * t)
            + width * t * u * (u * self._slopes[i] - t * self._slopes[i + 1])
        )
        return min(max(value, min(low, high)), max(low, high))


def mean_over(function: Callable[[float], float], breaks: Sequence[float], low: float, high: float) -> float:
    """The mean over [low, high] of a function that is a cubic between ``breaks``: exact but for rounding.

    Two Gauss points in each piece integrate a cubic exactly.
    """
    edges = [low, *sorted({b for b in breaks if low < b < high}), high]
    pieces = []
    for left, right in pairwise(edges):
        middle, half = (left + right) / 2, (right - left) / 2
        offset = half / math.sqrt(3)
        pieces.append(half * (function(middle - offset) + function(middle + offset)))
    return math.fsum(pieces) / (high - low)


def _slopes(x: Sequence[float], y: Sequence[float]) -> list[float]:
    widths = [b - a for a, b in pairwise(x)]
    secants = [(b - a) / width for (a, b), width in zip(pairwise(y), widths, strict=True)]
    if len(secants) == 1:
        return [secants[0], secants[0]]
    slopes = [_end_slope(widths[0], widths[1], secants[0], secants[1])]
    for i in range(1, len(secants)):
        before, after = secants[i - 1], secants[i]
        if before * after <= 0:
            slopes.append(0.0)
            continue
        w_before, w_after = 2 * widths[i] + widths[i - 1], widths[i] + 2 * widths[i - 1]
        slopes.append((w_before + w_after) / (w_before / before + w_after / after))
    slopes.append(_end_slope(widths[-1], widths[-2], secants[-1], secants[-2]))
    return slopes


def _end_slope(width: float, next_width: float, secant: float, next_secant: float) -> float:
    """The slope at an end, from the piece there and the one beside it."""
    slope = ((2 * width + next_width) * secant - width * next_secant) / (width + next_width)
    if slope * secant <= 0:
        return 0.0
    if secant * next_secant <= 0 and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope
