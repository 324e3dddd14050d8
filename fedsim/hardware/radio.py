"""What a radio costs: a state machine of idle, promotion, activity and tail.

::

    IDLE --promotion--> ACTIVE --last bit--> TAIL phase 1 .. n --> IDLE
                           ^-----next transfer-----|

After J. Huang et al., "A close examination of performance and power characteristics of 4G LTE networks",
MobiSys 2012 (section 5): while it transfers, a radio draws ``alpha_u t_u + alpha_d t_d + beta`` at rates
``t``; after the last bit it stays up for a tail, whatever it had to send. A tail is therefore charged by
the time until the next transfer: never once for each sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RadioEnergy", "RadioModel", "energy"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RadioModel:
    """Powers and times of a radio. Each power is that of its state as a whole, the idle power included.

    Args:
        idle_w: in IDLE.
        promotion_s: from IDLE to ACTIVE.
        promotion_w: meanwhile.
        active_w: while bits flow, at a rate of nought (beta).
        active_down_w: the same while none but received ones do, where it differs; None where it does not.
        up_w_per_bps: more for each bit/s that it sends (alpha_u), which is joules a bit.
        down_w_per_bps: more for each bit/s that it receives (alpha_d).
        tail: (seconds, watts) of the phases after the last bit, in order; none for a radio without a tail.
        idle_drx_s: period at which an idle radio listens for what the server begins; 0 if it always does.
        drx_s: the same in its tail.
        drx_after_s: when that begins, behind the last bit.

    Raises:
        ValueError: a value below 0.
    """

    idle_w: float
    promotion_s: float
    promotion_w: float
    active_w: float
    up_w_per_bps: float
    down_w_per_bps: float
    tail: tuple[tuple[float, float], ...] = ()
    idle_drx_s: float = 0.0
    active_down_w: float | None = None
    drx_s: float = 0.0
    drx_after_s: float = 0.0

    def __post_init__(self) -> None:
        numbers = {
            key: getattr(self, key)
            for key in (
                "idle_w",
                "promotion_s",
                "promotion_w",
                "active_w",
                "up_w_per_bps",
                "down_w_per_bps",
                "idle_drx_s",
                "drx_s",
                "drx_after_s",
            )
        } | {"active_down_w": self.receiving_w}
        for number, (seconds, watts) in enumerate(self.tail, 1):
            numbers |= {f"seconds of tail phase {number}": seconds, f"watts of tail phase {number}": watts}
        for key, value in numbers.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{key} is {value}, and has to be 0 or more")

    @property
    def receiving_w(self) -> float:
        """While none but received bits flow, at a rate of nought."""
        return self.active_w if self.active_down_w is None else self.active_down_w

    @property
    def tail_s(self) -> float:
        """Length of the whole tail, in seconds."""
        return math.fsum(seconds for seconds, _ in self.tail)


@dataclass(frozen=True, eq=False, slots=True)
class RadioEnergy:
    """Where a radio's energy went, over a span from ``since`` to ``until``. Arrays have one entry a transfer.

    A transfer is charged the promotion that it needed, its own bits, the base power of the time that no
    transfer before it was active, and the tail that runs from its end until the next transfer begins.
    """

    promoted: NDArray[np.bool_]  #: [N], whether it found the radio idle
    promotion_s: Floats  #: [N]
    active_s: Floats  #: [N], the time by which it made the radio active for longer
    tail_s: Floats  #: [N]
    promotion_j: Floats  #: [N]
    active_j: Floats  #: [N]
    tail_j: Floats  #: [N]
    idle_s: float
    idle_j: float
    idle_w: float
    since: float
    until: float

    @property
    def transfer_j(self) -> Floats:
        """[N], joules of each transfer, the idle power of its time included."""
        return self.promotion_j + self.active_j + self.tail_j

    @property
    def incremental_transfer_j(self) -> Floats:
        """[N], joules of each transfer above what the idle radio would have drawn in its time."""
        return self.transfer_j - self.idle_w * (self.promotion_s + self.active_s + self.tail_s)

    @property
    def total_j(self) -> float:
        """Joules over the span: the integral of the power."""
        return math.fsum(self.transfer_j) + self.idle_j

    @property
    def incremental_j(self) -> float:
        """Joules over the span above those of a radio that idles all the time."""
        return math.fsum(self.incremental_transfer_j)


def energy(
    model: RadioModel,
    starts: ArrayLike,
    ends: ArrayLike,
    up_bits: ArrayLike,
    down_bits: ArrayLike,
    until: float,
    *,
    since: float = 0.0,
) -> RadioEnergy:
    """What the transfers of one device cost it.

    Bits begin to flow at ``starts``: where the radio was idle, its promotion *ends* there. Transfers may
    overlap: their rates add, the base power counts once, and is the higher one where both directions flow.
    Bits in no time cost what they cost by the bit.
    The radio is idle when the span begins, and what it does behind the span is not counted.

    Two cases that a simulation which waits for promotions does not make, but timestamps of a real run may. A
    transfer that begins after the tail of the one before, but too soon for a whole promotion, is charged as
    much of one as there was time for. A first transfer that begins too soon after ``since`` is charged a
    whole one, and the span begins earlier by as much.

    Args:
        model: of the radio.
        starts: [N], seconds on any clock, in order.
        ends: [N], when the last bits have arrived.
        up_bits: [N], sent.
        down_bits: [N], received. A transfer with none of the former is a download.
        until: end of the span, at or after the last of ``ends``.
        since: begin of the span, at or before the first of ``starts``.

    Raises:
        ValueError: arrays of different lengths, starts out of order, an end before its start, bits
            below 0, or a span that does not hold the transfers.
    """
    begin, end = _transfers(starts, ends)
    bits = [np.asarray(values, dtype=np.float64) for values in (up_bits, down_bits)]
    for key, values in zip(("up_bits", "down_bits"), bits, strict=True):
        if values.shape != begin.shape:
            raise ValueError(
                f"{key} {values.shape} and starts {begin.shape} have to be one for each transfer"
            )
        _refuse(~(np.isfinite(values) & (values >= 0)), f"{key} below 0")
    last = float(end.max(initial=since))
    if not (math.isfinite(since) and last <= until < math.inf) or (begin.size and begin[0] < since):
        raise ValueError(f"the span from {since} s to {until} s does not hold all transfers")

    reached = np.maximum.accumulate(end)  # when the radio falls silent, of the transfers so far
    before = np.concatenate([[-math.inf], reached[:-1]])[: begin.size]
    gap = np.maximum(begin - before, 0.0)
    promoted = gap > model.tail_s
    promotion_s = np.where(promoted, np.minimum(model.promotion_s, gap - model.tail_s), 0.0)
    active_s = _lengthened(begin, end)
    base_w, more_w = sorted((model.active_w, model.receiving_w))
    active_j = base_w * active_s + model.up_w_per_bps * bits[0] + model.down_w_per_bps * bits[1]
    if more_w > base_w:
        dearer = (bits[0] > 0) == (model.active_w > model.receiving_w)
        active_j[dearer] += (more_w - base_w) * _lengthened(begin[dearer], end[dearer])

    silence = np.zeros_like(begin)  # behind the transfer that ended last before it
    if begin.size:
        rests = np.maximum(np.append(begin[1:], until) - reached, 0.0)
        np.add.at(silence, _ended_last(end, reached), rests)
    tail_s, tail_j, passed = np.zeros_like(begin), np.zeros_like(begin), 0.0
    for seconds, watts in model.tail:
        phase = np.clip(silence - passed, 0.0, seconds)
        tail_s, tail_j, passed = tail_s + phase, tail_j + watts * phase, passed + seconds

    opening = min(since, float(begin[0] - promotion_s[0])) if begin.size else since
    busy_s = math.fsum(np.concatenate([promotion_s, active_s, tail_s]))
    idle_s = max(until - opening - busy_s, 0.0)
    return RadioEnergy(
        promoted=promoted,
        promotion_s=promotion_s,
        active_s=active_s,
        tail_s=tail_s,
        promotion_j=model.promotion_w * promotion_s,
        active_j=active_j,
        tail_j=tail_j,
        idle_s=idle_s,
        idle_j=model.idle_w * idle_s,
        idle_w=model.idle_w,
        since=opening,
        until=float(until),
    )


def _transfers(starts: ArrayLike, ends: ArrayLike) -> tuple[Floats, Floats]:
    begin, end = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    if begin.ndim != 1 or begin.shape != end.shape:
        raise ValueError(f"starts {begin.shape} and ends {end.shape} have to be one for each transfer")
    _refuse(~(np.isfinite(begin) & np.isfinite(end)), "a start or an end that is no finite time")
    _refuse(end < begin, "an end before its start")
    _refuse(np.diff(begin, prepend=begin[:1]) < 0, "a start before that of the transfer ahead of it")
    return begin, end


def _lengthened(begin: Floats, end: Floats) -> Floats:
    """[N], by how long each transfer makes the time longer in which any is under way."""
    before = np.concatenate([[-math.inf], np.maximum.accumulate(end)[:-1]])[: begin.size]
    return np.asarray(np.maximum(end - np.maximum(begin, before), 0.0))


def _ended_last(end: Floats, reached: Floats) -> NDArray[np.int64]:
    """[N], of the transfers up to each, the one that ended last (the latest of several)."""
    indices = np.where(end == reached, np.arange(end.size), 0)
    return np.maximum.accumulate(indices).astype(np.int64)


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        raise ValueError(f"transfer {int(np.argmax(wrong))} has {what}")
