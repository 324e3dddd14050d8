"""A channel that carries one payload of a device behind the other."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["waits"]

Floats = NDArray[np.float64]


@njit(cache=True, error_model="numpy")
def waits(
    at_s: Floats,
    paused: bool,
    compute_s: Floats,
    held_s: Floats,
    answered_s: Floats,
    in_flight: int,
    deadline_s: float,
) -> Floats:
    """Seconds that each payload waits, ready, for the channel; arrays [samples], in order.

    With ``begin[k] = max(ready[k], begin[k - 1] + held_s[k - 1])``, where a sample is ready when the
    processor is done with it, which works on one after the other, from when one is due and fewer than
    ``in_flight`` are without an answer: what the event loop does.

    Args:
        at_s: when the samples are due, or the pauses ahead of them.
        paused: whether they are pauses, behind the last answer so far.
        compute_s: of the device's processor.
        held_s: from when a payload begins until the next may.
        answered_s: from when it begins until its answer is there.
        in_flight: most samples without an answer.
        deadline_s: from when a sample is ready until nobody waits for its answer any more.
    """
    waited = np.empty(len(at_s))
    # The latest answers, as many as there may be samples without one: the first of them lets one more begin.
    answers = [-np.inf for _ in range(in_flight)]
    busy, free, answered = 0.0, -np.inf, -np.inf
    for sample in range(len(at_s)):
        start = max(busy, answers[0])
        if paused:
            due, known = at_s[sample], answers[0]
            if known > -np.inf:
                due += known
            start = max(start, due)
            if in_flight > 1 and at_s[sample] > 0:
                for answer in sorted(answers):
                    if known < answer <= start:
                        start = max(start, answer + at_s[sample])
        else:
            start = max(start, at_s[sample])
        ready = start + compute_s[sample]
        begin = max(ready, free)
        waited[sample] = begin - ready
        busy, free = ready, begin + held_s[sample]
        answered = max(answered, begin + answered_s[sample])  # they keep their order
        heapq.heapreplace(answers, min(answered, ready + deadline_s))
    return waited
