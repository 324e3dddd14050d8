"""Energy of a window from samples of power."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from edge.energy.meter import MeterError

__all__ = ["integral"]


def integral(
    times: Sequence[float], watts: Sequence[float], begin: float, end: float, longest_gap_s: float
) -> float:
    """Joules between ``begin`` and ``end`` by the trapezoidal rule; power is linear between two samples.

    Args:
        times: when the samples were taken [s], in order.
        watts: the samples, as many.
        begin: of the window, on the clock of ``times``.
        end: of the window.
        longest_gap_s: two samples that are further apart do not say what was drawn between them.

    Raises:
        MeterError: the samples do not span the window, or leave a gap in it.
    """
    if not times:
        raise MeterError("there are no samples")
    if begin < times[0]:
        raise MeterError(f"the first sample is {times[0] - begin:.3g} s later than the window begins")
    if end > times[-1]:
        raise MeterError(f"the last sample is {end - times[-1]:.3g} s earlier than the window ends")
    parts: list[float] = []
    for i in range(bisect_right(times, begin) - 1, bisect_left(times, end)):
        gap = times[i + 1] - times[i]
        if gap > longest_gap_s:
            raise MeterError(
                f"there is no sample for {gap:.3g} s, from {max(0.0, times[i] - begin):.3g} s of the window "
                f"on; the longest gap allowed is {longest_gap_s:g} s"
            )
        left, right = max(times[i], begin), min(times[i + 1], end)
        if right > left:
            slope = (watts[i + 1] - watts[i]) / gap
            middle = watts[i] + slope * ((left + right) / 2 - times[i])
            parts.append(middle * (right - left))
    return math.fsum(parts)
