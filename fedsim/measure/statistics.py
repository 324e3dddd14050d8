"""The statistics that summaries and trade-offs report: percentiles, intervals, and a test of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["percentile", "sign_test", "student_t95", "t_interval", "wilson_interval"]

#: The 97.5 % point of the standard normal distribution: an interval that leaves 2.5 % at each end.
_Z95 = 1.959963984540054


def percentile(values: ArrayLike, p: float) -> float:
    """The ``p``-th percentile (0..100), linear between the two nearest values (NumPy's default)."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), p))


def wilson_interval(correct: float, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, JASA 22, 1927), within 0..1.

    Unlike the normal approximation it keeps its coverage near 0 and 1, where accuracies lie.

    Args:
        correct: successes, not whole where they are a mean over trials that were made more than once.
        total: trials.

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


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a mean by Student's t (Biometrika 6, 1908), or None of fewer than two values.

    The values are taken for independent draws of one normal distribution: such as one figure of the
    same method, trained from several seeds.
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = student_t95(n - 1) * math.sqrt(variance / n)
    return mean - half, mean + half


@cache
def student_t95(freedom: int) -> float:
    """The 97.5 % point of Student's distribution: 12.706 for 1 degree of freedom, 4.303 for 2.

    Found by bisection of the distribution function, which is a finite sum for whole degrees of freedom
    (Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).

    Raises:
        ValueError: fewer than one degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom: expected at least 1")
    low, high = 0.0, math.pi / 2  # the angle whose tangent is t / sqrt(freedom)
    while low < (middle := (low + high) / 2) < high:
        if _two_sided_mass(middle, freedom) < 0.95:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _two_sided_mass(angle: float, freedom: int) -> float:
    """The probability of an absolute value below ``sqrt(freedom) tan(angle)``."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cosine**2
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def sign_test(
    differences: Sequence[float], alternative: Literal["two-sided", "greater", "less"] = "two-sided"
) -> float:
    """The p-value of the exact sign test of paired differences (Dixon and Mood, JASA 41, 1946).

    Of the differences that are not zero, as many should be positive as negative; p is the probability
    of a split at least as uneven as the one found. Three pairs cannot go below 0.125 (one-sided) or
    0.25, five not below 0.031 or 0.063.

    Args:
        differences: one for each pair; those of zero say nothing and are left out.
        alternative: what is suspected of the differences: that they are ``greater`` than zero, ``less``,
            or either (``two-sided``).

    Raises:
        ValueError: a difference that is not a number.
    """
    if any(math.isnan(difference) for difference in differences):
        raise ValueError(f"differences {list(differences)}: every one must be a number")
    positive = sum(difference > 0 for difference in differences)
    negative = sum(difference < 0 for difference in differences)
    if alternative == "greater":
        return _at_most_heads(negative, positive + negative)
    if alternative == "less":
        return _at_most_heads(positive, positive + negative)
    return min(1.0, 2 * _at_most_heads(min(positive, negative), positive + negative))


def _at_most_heads(heads: int, tosses: int) -> float:
    """The probability of at most so many heads in so many tosses of a fair coin."""
    return sum(math.comb(tosses, k) for k in range(heads + 1)) / (1 << tosses)
