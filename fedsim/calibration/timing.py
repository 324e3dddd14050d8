"""How long pieces of work take on a machine that does other things as well.

Every subject is measured in blocks, one block of each in turn and round after round, so that a clock that
slows down, or a neighbour that wakes up, hits all of them alike. What disturbs a call only ever makes it
longer: of a block its *shortest* call counts, and of all blocks the *median*. A subject has a spread, the
quartiles over its blocks, and a time is no better than that. A call that takes longer than a block, 10 ms, is
a block of its own, and escapes nothing: on a machine that is not idle, long calls come out too long.

So these are times of work that is not interrupted. Where something else computes on the same core, it takes
longer, and queueing behind it is for a simulator to add.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_ROUNDS", "Run", "Timing", "measure", "quartiles", "spread", "timed"]

#: Does the work once, and says how many seconds it took. Is given the number of the round.
Run = Callable[[int], float]
K = TypeVar("K", bound=Hashable)
Floats = NDArray[np.float64]

#: Blocks of each subject, however long they take.
LEAST_ROUNDS = 3
_BLOCK_S = 0.01  # no call is begun in a block that has lasted so long
_MOST_CALLS = 20  # of a block


@dataclass(frozen=True, eq=False)
class Timing:
    """What was measured of a subject.

    Args:
        minima: [rounds], the shortest call of each block, in seconds.
    """

    minima: Floats

    @property
    def seconds(self) -> float:
        """The estimate: the median of the blocks."""
        return float(np.median(self.minima))


def quartiles(values: Floats) -> tuple[float, float]:
    """The first and the third."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)


def spread(values: Floats) -> float:
    """The distance of the quartiles, as part of the median; infinite where that is 0."""
    low, high = quartiles(values)
    middle = float(np.median(values))
    return (high - low) / middle if middle > 0 else math.inf


def timed(work: Callable[[int], object]) -> Run:
    """A subject of work that is timed as a whole."""

    def run(number: int) -> float:
        began = time.perf_counter()
        work(number)
        return time.perf_counter() - began

    return run


def measure(
    subjects: Mapping[K, Run], seconds: float, progress: Callable[[float], None] = lambda done: None
) -> dict[K, Timing]:
    """Measure subjects, interleaved, for about so many seconds.

    Each is run twice before it counts. After ``seconds`` no round is begun, but for the first three.

    Args:
        subjects: by any key.
        seconds: more than 0.
        progress: is told the part of the time that has passed, 0 to 1.

    Raises:
        ValueError: nothing to measure, or no time for it.
    """
    if not subjects or not 0 < seconds < math.inf:
        raise ValueError(f"{len(subjects)} subjects in {seconds} s: needs one, and more than 0 s")
    began = time.perf_counter()
    for run in subjects.values():
        for _ in range(2):
            run(0)
    block_s = min(_BLOCK_S, seconds / (LEAST_ROUNDS * len(subjects)))
    minima: dict[K, list[float]] = {key: [] for key in subjects}
    number = 0
    while number < LEAST_ROUNDS or time.perf_counter() - began < seconds:
        for key, run in subjects.items():
            minima[key].append(_block(run, number, block_s))
            passed = (time.perf_counter() - began) / seconds
            progress(min(1.0, passed if number >= LEAST_ROUNDS else min(passed, 0.99)))
        number += 1
    return {key: Timing(np.array(values)) for key, values in minima.items()}


def _block(run: Run, number: int, seconds: float) -> float:
    began, shortest = time.perf_counter(), math.inf
    for _ in range(_MOST_CALLS):
        shortest = min(shortest, run(number))
        if time.perf_counter() - began >= seconds:
            break
    return shortest
