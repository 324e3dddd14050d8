"""A rate that changes over time, integrated exactly: when does so much data end that starts now?"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from edge.link.errors import LinkError

__all__ = ["Trace", "markov_trace"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, init=False)
class Trace:
    """A piecewise constant rate: ``bits_per_s[i]`` holds from ``times_s[i]`` to ``times_s[i + 1]``.

    Args:
        times_s: where each rate begins; the first is 0, and they increase. Shape [N].
        bits_per_s: the rates, of at least 0. Shape [N].
        repeat: begin again after ``duration_s``; else the last rate holds for ever.
        duration_s: the length of one pass, beyond the last of ``times_s``. The default lets the last
            rate hold as long as the one before it, or 1 s if it is the only one.

    Raises:
        LinkError: no times, times that do not increase from 0, a rate below 0, or one that is 0 for
            ever, so that nothing would ever arrive.
    """

    times_s: tuple[float, ...]
    bits_per_s: tuple[float, ...]
    repeat: bool = True
    duration_s: float = 0.0
    _starts: tuple[float, ...] = field(init=False, repr=False, compare=False)  # bits before each piece
    _ends: tuple[float, ...] = field(init=False, repr=False, compare=False)  # and up to its end
    _total: float = field(init=False, repr=False, compare=False)  # bits of a pass
    _table: tuple[Floats, Floats, Floats, Floats] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        times_s: Sequence[float] | Floats,
        bits_per_s: Sequence[float] | Floats,
        repeat: bool = True,
        duration_s: float | None = None,
    ) -> None:
        times, rates = tuple(map(float, times_s)), tuple(map(float, bits_per_s))
        if duration_s is None and times:
            duration_s = 2 * times[-1] - times[-2] if len(times) > 1 else 1.0
        length = float(duration_s or 0.0)
        _check(times, rates, repeat, length)
        spans = [after - before for before, after in pairwise((*times, length))]
        ends = list(accumulate(rate * span for rate, span in zip(rates, spans, strict=True)))
        starts, total = (0.0, *ends[:-1]), ends[-1]
        if not repeat:
            ends[-1] = math.inf
        put = object.__setattr__  # frozen
        put(self, "times_s", times)
        put(self, "bits_per_s", rates)
        put(self, "repeat", bool(repeat))
        put(self, "duration_s", length)
        put(self, "_starts", starts)
        put(self, "_ends", tuple(ends))
        put(self, "_total", total)
        put(self, "_table", tuple(np.array(row) for row in (times, rates, starts, ends)))

    def __repr__(self) -> str:
        return (
            f"Trace({len(self.times_s)} rates over {self.duration_s:g} s, "
            f"mean {self.mean_bits_per_s:g} bit/s, repeat={self.repeat})"
        )

    @property
    def mean_bits_per_s(self) -> float:
        """The mean rate of one pass."""
        return self._total / self.duration_s

    def rate(self, at_s: float) -> float:
        """The rate at ``at_s`` [bit/s]."""
        within = self._within(at_s)[1]
        return self.bits_per_s[bisect_right(self.times_s, within) - 1]

    def next_change(self, at_s: float) -> float:
        """When the piece that ``at_s`` lies in ends: later than ``at_s``; infinite if it never does."""
        passes, within = self._within(at_s)
        piece = bisect_right(self.times_s, within)
        if piece < len(self.times_s):
            end = self.times_s[piece]
        elif self.repeat:
            end = self.duration_s
        else:
            return math.inf
        later = passes * self.duration_s + end
        return later if later > at_s else math.nextafter(at_s, math.inf)

    @overload
    def bits(self, start_s: float, end_s: float) -> float: ...

    @overload
    def bits(self, start_s: Floats, end_s: Floats) -> Floats: ...

    def bits(self, start_s: float | Floats, end_s: float | Floats) -> float | Floats:
        """What can be sent from ``start_s`` to ``end_s`` [bit]; of scalars, or of arrays that broadcast.

        Raises:
            ValueError: a time before 0.
        """
        if isinstance(start_s, np.ndarray) or isinstance(end_s, np.ndarray):
            before, first = self._sent_each(np.asarray(start_s, dtype=float))
            after, last = self._sent_each(np.asarray(end_s, dtype=float))
            return (after - before) * self._total + (last - first)
        before_pass, first_bits = self._sent(start_s)
        after_pass, last_bits = self._sent(end_s)
        return (after_pass - before_pass) * self._total + (last_bits - first_bits)

    @overload
    def finish(self, start_s: float, bits: float) -> float: ...

    @overload
    def finish(self, start_s: Floats, bits: Floats) -> Floats: ...

    def finish(self, start_s: float | Floats, bits: float | Floats) -> float | Floats:
        """When ``bits`` have been sent that begin at ``start_s``; of scalars, or of arrays that broadcast.

        The earliest t with ``bits(start_s, t) >= bits``, which is the inverse of :meth:`bits`
        wherever the rate is above 0.

        Raises:
            ValueError: a time or a number of bits below 0.
        """
        if isinstance(start_s, np.ndarray) or isinstance(bits, np.ndarray):
            return self._finish_each(np.asarray(start_s, dtype=float), np.asarray(bits, dtype=float))
        if bits <= 0:
            if bits < 0:
                raise ValueError(f"cannot send {bits:g} bits; at least 0")
            return start_s
        passes, sent = self._sent(start_s)
        rest = sent + bits
        if self.repeat:
            # A pass's last bit arrives within it, not at the start of the next.
            further = math.ceil(rest / self._total) - 1
            passes += further
            rest = min(max(rest - further * self._total, 0.0), self._total)
        piece = bisect_left(self._ends, rest)
        rate = self.bits_per_s[piece]  # 0 only if rest was rounded to 0: a pass began in between
        within = self.times_s[piece] + ((rest - self._starts[piece]) / rate if rate else 0.0)
        return max(passes * self.duration_s + within, start_s)

    def _within(self, at_s: float) -> tuple[float, float]:
        """Whole passes before a time, and the time within its own."""
        if at_s < 0:
            raise ValueError(f"a trace begins at 0 s, and was asked for {at_s:g} s")
        if not self.repeat:
            return 0.0, at_s
        passes = at_s // self.duration_s
        return passes, min(max(at_s - passes * self.duration_s, 0.0), self.duration_s)

    def _sent(self, at_s: float) -> tuple[float, float]:
        """Whole passes before a time, and the bits that its own has sent by then."""
        passes, within = self._within(at_s)
        piece = bisect_right(self.times_s, within) - 1
        return passes, self._starts[piece] + self.bits_per_s[piece] * (within - self.times_s[piece])

    def _sent_each(self, at_s: Floats) -> tuple[Floats, Floats]:
        times, rates, starts, _ = self._table
        if np.any(at_s < 0):
            raise ValueError(f"a trace begins at 0 s, and was asked for {at_s.min():g} s")
        passes = np.floor_divide(at_s, self.duration_s) if self.repeat else np.zeros_like(at_s)
        within = at_s - passes * self.duration_s
        if self.repeat:
            within = np.clip(within, 0.0, self.duration_s)
        piece = np.searchsorted(times, within, side="right") - 1
        return passes, starts[piece] + rates[piece] * (within - times[piece])

    def _finish_each(self, start_s: Floats, bits: Floats) -> Floats:
        times, rates, starts, ends = self._table
        if np.any(bits < 0):
            raise ValueError(f"cannot send {bits.min():g} bits; at least 0")
        passes, sent = self._sent_each(start_s)
        rest = sent + bits
        if self.repeat:
            further = np.ceil(rest / self._total) - 1
            passes = passes + further
            rest = np.clip(rest - further * self._total, 0.0, self._total)
        piece = np.searchsorted(ends, rest, side="left")
        rate = np.where(rates[piece] == 0, np.inf, rates[piece])
        within = times[piece] + (rest - starts[piece]) / rate
        return np.where(bits == 0, start_s, np.maximum(passes * self.duration_s + within, start_s))


def _check(times: tuple[float, ...], rates: tuple[float, ...], repeat: bool, duration_s: float) -> None:
    if not times or len(times) != len(rates):
        raise LinkError(f"a trace of {len(times)} times and {len(rates)} rates; one rate for each time")
    if times[0] != 0:
        raise LinkError(f"a trace that begins at {times[0]:g} s; the first time is 0")
    for number, (before, after) in enumerate(pairwise(times), start=1):
        if not before < after < math.inf:
            raise LinkError(f"time {number} of a trace is {after:g} s after {before:g} s; times increase")
    for number, rate in enumerate(rates):
        if not 0 <= rate < math.inf:
            raise LinkError(f"rate {number} of a trace is {rate:g} bit/s; at least 0")
    if not times[-1] < duration_s < math.inf:
        raise LinkError(f"a trace of {duration_s:g} s whose last rate begins at {times[-1]:g} s; longer")
    if not any(rates) or (not repeat and not rates[-1]):
        raise LinkError("a trace whose rate is 0 for ever; a rate above 0, at the end if it does not repeat")


def markov_trace(
    seed: int,
    rates_bps: Sequence[float] = (1e6, 2e6, 5e6, 10e6, 20e6),
    mean_stay_s: float = 2.0,
    duration_s: float = 120.0,
) -> Trace:
    """A Markov-modulated rate: stays of exponential length, then one step up or down, with equal chance.

    The chain is a birth-death process on ``rates_bps`` in their order; it starts anywhere.

    Args:
        seed: the same trace for the same seed.
        rates_bps: the states [bit/s], two at least, one above 0 at least.
        mean_stay_s: the mean time in a state.
        duration_s: the length of the trace, which repeats.

    Raises:
        LinkError: fewer states, or a time that is not above 0.
    """
    if len(rates_bps) < 2 or not any(rate > 0 for rate in rates_bps):
        raise LinkError(f"a Markov trace over the rates {list(rates_bps)}; two at least, one above 0")
    if not (0 < mean_stay_s < math.inf and 0 < duration_s < math.inf):
        raise LinkError(f"a Markov trace with stays of {mean_stay_s:g} s over {duration_s:g} s; above 0")
    generator = np.random.default_rng(seed)
    state = int(generator.integers(len(rates_bps)))
    at, times, rates = 0.0, [0.0], [float(rates_bps[state])]
    # As long as every rate was 0, go on: a silent trace is none.
    while (at := at + generator.exponential(mean_stay_s)) < duration_s or not any(rates):
        step = 1 if generator.random() < 0.5 else -1
        state = state + step if 0 <= state + step < len(rates_bps) else state - step
        times.append(at)
        rates.append(float(rates_bps[state]))
    return Trace(times, rates, duration_s=duration_s if times[-1] < duration_s else at)
