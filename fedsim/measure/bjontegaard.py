"""How far apart two curves of accuracy against bytes lie: Bjontegaard's differences.

G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001, with
accuracy in place of PSNR, and with monotone piecewise cubics in place of one cubic, as video coding has
used them since JVET (one cubic through more or other than four points swings beyond them).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fedsim.measure.monotone import MonotoneCubic, isotonic, mean_over

__all__ = ["Curve", "Difference", "NoComparisonError", "accuracy_at", "bd_accuracy", "bd_rate", "bytes_at"]

#: Sizes (in powers of ten) and accuracies nearer than this are one: a rounding error is no step of a curve.
_SAME = 1e-12


class NoComparisonError(ValueError):
    """Two curves that have no common range, or are too short to be curves."""


@dataclass(frozen=True)
class Curve:
    """Accuracy against bytes, made monotone: more bytes never make it worse.

    Build it with :meth:`through`.
    """

    sizes: tuple[float, ...]  #: bytes a sample, strictly increasing
    accuracies: tuple[float, ...]  #: 0..1, as many, not decreasing

    @classmethod
    def through(cls, points: Iterable[tuple[float, float]]) -> Curve:
        """The curve of points (bytes, accuracy), in any order.

        Points of equal size become one, of their mean accuracy. Where accuracy falls with more bytes
        (which noise makes it do near saturation) isotonic regression levels it: a plateau at the mean
        of those points. Taking the best of them instead would favour who has more points to draw from.

        Raises:
            ValueError: no point, or one of no bytes, which has no place on a logarithmic axis.
        """
        ordered = sorted(points)
        if not ordered or not all(size > 0 and math.isfinite(size) for size, _ in ordered):
            raise ValueError(f"a curve takes points of more than 0 bytes, got {ordered}")
        sizes: list[float] = []
        groups: list[list[float]] = []
        for size, accuracy in ordered:
            if not sizes or math.log10(size) - math.log10(sizes[-1]) > _SAME:
                sizes.append(size)
                groups.append([])
            groups[-1].append(accuracy)
        means = [math.fsum(group) / len(group) for group in groups]
        return cls(tuple(sizes), tuple(isotonic(means, [len(group) for group in groups])))

    @property
    def size_range(self) -> tuple[float, float]:
        """Least and most bytes."""
        return self.sizes[0], self.sizes[-1]

    @property
    def accuracy_range(self) -> tuple[float, float]:
        """Least and most accuracy."""
        return self.accuracies[0], self.accuracies[-1]


@dataclass(frozen=True)
class Difference:
    """A mean difference of two curves, and the range it is the mean over."""

    value: float
    low: float
    high: float


def bytes_at(curve: Curve, accuracy: float) -> float | None:
    """The bytes a sample at which the curve reaches an accuracy (0..1).

    On a plateau those where it begins. None outside the curve's accuracies: nothing is extrapolated.
    Passes through the curve's points, and between them through a monotone cubic of log bytes over
    accuracy: the one that :func:`bd_rate` integrates.
    """
    sizes, accuracies = _rising(curve)
    if not accuracies[0] <= accuracy <= curve.accuracies[-1]:
        return None
    if accuracy >= accuracies[-1]:
        return float(10 ** sizes[-1])
    return float(10 ** MonotoneCubic(accuracies, sizes)(accuracy))


def accuracy_at(curve: Curve, size: float) -> float | None:
    """The accuracy (0..1) of the curve at so many bytes a sample.

    None outside the curve's sizes. Passes through the curve's points, and between them through a
    monotone cubic over log bytes: the one that :func:`bd_accuracy` integrates.
    """
    if not curve.sizes[0] <= size <= curve.sizes[-1]:
        return None
    if len(curve.sizes) == 1:
        return curve.accuracies[0]
    return MonotoneCubic([math.log10(s) for s in curve.sizes], curve.accuracies)(math.log10(size))


def bd_rate(curve: Curve, anchor: Curve) -> Difference:
    """How many per cent more bytes than the anchor the curve takes at equal accuracy; negative is better.

    ``100 (10^d - 1)`` with ``d`` the mean of log10 bytes(accuracy) of the curve less that of the
    anchor, over the accuracies that both reach (``low`` and ``high`` of the result, 0..1).

    Raises:
        NoComparisonError: a curve of one accuracy only, or no accuracies in common.
    """
    knots = []
    for which, one in (("", curve), ("the anchor has ", anchor)):
        sizes, accuracies = _rising(one)
        if len(accuracies) < 2:
            raise NoComparisonError(f"{which}{_too_short(one)}")
        knots.append((accuracies, sizes))
    (own, own_sizes), (theirs, their_sizes) = knots
    low, high = max(own[0], theirs[0]), min(own[-1], theirs[-1])
    if high - low <= _SAME:
        raise NoComparisonError(
            f"no accuracies in common: {_per_cent(own[0], own[-1])}, "
            f"the anchor {_per_cent(theirs[0], theirs[-1])}"
        )
    ours, reference = MonotoneCubic(own, own_sizes), MonotoneCubic(theirs, their_sizes)
    shift = mean_over(lambda a: ours(a) - reference(a), (*own, *theirs), low, high)
    return Difference(100 * math.expm1(shift * math.log(10)), low, high)


def bd_accuracy(curve: Curve, anchor: Curve) -> Difference:
    """How many points of accuracy (0..100) the curve lies above the anchor at equal bytes.

    The mean over log bytes of the difference of the accuracies, over the bytes that both curves cover
    (``low`` and ``high`` of the result).

    Raises:
        NoComparisonError: a curve of one size only, or no sizes in common.
    """
    for which, one in (("", curve), ("the anchor has ", anchor)):
        if len(one.sizes) < 2:
            raise NoComparisonError(f"{which}one point, a curve takes two")
    own, theirs = ([math.log10(size) for size in one.sizes] for one in (curve, anchor))
    low, high = max(own[0], theirs[0]), min(own[-1], theirs[-1])
    if high - low <= _SAME:
        raise NoComparisonError(
            f"no sizes in common: {_bytes(*curve.size_range)}, the anchor {_bytes(*anchor.size_range)}"
        )
    ours, reference = MonotoneCubic(own, curve.accuracies), MonotoneCubic(theirs, anchor.accuracies)
    gain = mean_over(lambda size: ours(size) - reference(size), (*own, *theirs), low, high)
    sizes = (max(curve.sizes[0], anchor.sizes[0]), min(curve.sizes[-1], anchor.sizes[-1]))
    return Difference(100 * gain, *sizes)


def _rising(curve: Curve) -> tuple[list[float], list[float]]:
    """log10 bytes and accuracies where the curve rises; a plateau counts with its least bytes."""
    sizes: list[float] = []
    accuracies: list[float] = []
    for size, accuracy in zip(curve.sizes, curve.accuracies, strict=True):
        if not accuracies or accuracy - accuracies[-1] > _SAME:
            sizes.append(math.log10(size))
            accuracies.append(accuracy)
    return sizes, accuracies


def _too_short(curve: Curve) -> str:
    count = len(curve.sizes)
    return "one point, a curve takes two" if count == 1 else f"{count} points of one accuracy"


def _per_cent(low: float, high: float) -> str:
    return f"{100 * low:.1f}–{100 * high:.1f} %"  # noqa: RUF001


def _bytes(low: float, high: float) -> str:
    return f"{low:.0f}–{high:.0f} B"  # noqa: RUF001
