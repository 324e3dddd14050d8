import math
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.radio import RadioModel, energy

# LTE of 2012 (Huang et al., table 4 and ARO's profile); a tail of two phases, so that both are seen.
LTE = RadioModel(
    idle_w=0.03,
    promotion_s=0.2601,
    promotion_w=1.2107,
    active_w=1.28804,
    up_w_per_bps=438.39e-9,
    down_w_per_bps=51.97e-9,
    tail=((1.0, 1.2), (10.576, 1.06)),
    idle_drx_s=1.28,
)
TAIL_J = 1.0 * 1.2 + 10.576 * 1.06
PROMOTION_J = 0.2601 * 1.2107


class State(Enum):
    IDLE = auto()
    PROMOTION = auto()
    ACTIVE = auto()
    TAIL = auto()


Transfers = list[tuple[float, float, float, float]]  # start, end, bits up, bits down


def integrate(model: RadioModel, transfers: Transfers, since: float, until: float) -> float:
    """The energy by definition: between two breakpoints of any kind the power is constant."""
    breaks = {since, until}
    for start, end, _, _ in transfers:
        breaks |= {start, end, start - model.promotion_s}
        passed = end
        for seconds, _ in model.tail:
            passed += seconds
            breaks.add(passed)
    return math.fsum(
        (right - left) * power(model, transfers, (left + right) / 2)
        for left, right in pairwise(sorted(b for b in breaks if since <= b <= until))
    )


def power(model: RadioModel, transfers: Transfers, time: float) -> float:
    now = state(model, transfers, time)
    if now is State.ACTIVE:
        flowing = [(u / (e - s), d / (e - s)) for s, e, u, d in transfers if s <= time < e]
        base = model.active_w if any(u for u, _ in flowing) else model.receiving_w
        if any(not u for u, _ in flowing):
            base = max(base, model.receiving_w)
        return base + sum(u * model.up_w_per_bps + d * model.down_w_per_bps for u, d in flowing)
    if now is State.TAIL:
        silent = time - max(end for _, end, _, _ in transfers if end <= time)
        for seconds, watts in model.tail:
            if silent < seconds:
                return watts
            silent -= seconds
    return model.promotion_w if now is State.PROMOTION else model.idle_w


def state(model: RadioModel, transfers: Transfers, time: float) -> State:
    if any(start <= time < end for start, end, _, _ in transfers):
        return State.ACTIVE
    ended = [end for _, end, _, _ in transfers if end <= time]
    if ended and time - max(ended) < sum(seconds for seconds, _ in model.tail):
        return State.TAIL
    coming = [start for start, _, _, _ in transfers if start > time]
    return State.PROMOTION if coming and time >= min(coming) - model.promotion_s else State.IDLE


def columns(transfers: Transfers) -> list[list[float]]:
    return [[one[i] for one in transfers] for i in range(4)]


# Times are multiples of 1/64 s: sums of them are exact, so that no sliver of an interval is left open.
ticks = st.integers(0, 640).map(lambda n: n / 64)
watts = st.floats(0, 5)


@st.composite
def models(draw: st.DrawFn) -> RadioModel:
    return RadioModel(
        idle_w=draw(watts),
        promotion_s=draw(ticks),
        promotion_w=draw(watts),
        active_w=draw(watts),
        up_w_per_bps=draw(st.floats(0, 1e-6)),
        down_w_per_bps=draw(st.floats(0, 1e-6)),
        tail=tuple(draw(st.lists(st.tuples(ticks, watts), max_size=3))),
        active_down_w=draw(st.none() | watts),
    )


@st.composite
def traffic(draw: st.DrawFn) -> Transfers:
    """Transfers in order, some at once, some of no time and no bits, with gaps long and short."""
    made: Transfers = []
    start = 0.0
    for gap, lasts, up, down in draw(
        st.lists(
            st.tuples(
                st.integers(0, 2000),
                st.integers(0, 300),
                st.just(0) | st.integers(0, 10**7),
                st.integers(0, 10**7),
            )
        )
    ):
        start += gap / 64
        made.append((start, start + lasts / 64, up * (lasts > 0), down * (lasts > 0)))
    return made


@settings(max_examples=60, deadline=None)
@given(models(), traffic(), st.integers(0, 2000).map(lambda n: n / 64))
def test_the_parts_add_up_to_the_integral_of_the_power(
    model: RadioModel, transfers: Transfers, rest: float
) -> None:
    until = max((end for _, end, _, _ in transfers), default=0.0) + rest
    found = energy(model, *columns(transfers), until)
    span = found.until - found.since
    expected = integrate(model, transfers, found.since, until)
    assert found.total_j == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found.incremental_j == pytest.approx(expected - model.idle_w * span, rel=1e-9, abs=1e-8)
    seconds = math.fsum([*found.promotion_s, *found.active_s, *found.tail_s, found.idle_s])
    assert seconds == pytest.approx(span)
    assert found.idle_s >= 0


@settings(max_examples=40, deadline=None)
@given(models(), traffic(), st.data())
def test_a_longer_gap_never_costs_less(model: RadioModel, transfers: Transfers, data: st.DataObject) -> None:
    until = max((end for _, end, _, _ in transfers), default=0.0)
    delay = data.draw(ticks)
    late = data.draw(st.integers(0, len(transfers)))
    shifted = transfers[:late] + [(s + delay, e + delay, u, d) for s, e, u, d in transfers[late:]]
    before = energy(model, *columns(transfers), until + 10)
    after = energy(model, *columns(shifted), until + delay + 10)
    assert after.total_j >= before.total_j - 1e-9
    assert after.promoted.sum() >= before.promoted.sum()


@settings(max_examples=40, deadline=None)
@given(models(), traffic(), traffic(), ticks)
def test_spans_that_the_radio_sleeps_between_add_up(
    model: RadioModel, early: Transfers, late: Transfers, rest: float
) -> None:
    until = max((end for _, end, _, _ in early), default=0.0) + model.tail_s
    late = [
        (s + until + model.promotion_s + 1, e + until + model.promotion_s + 1, u, d) for s, e, u, d in late
    ]
    stop = max((end for _, end, _, _ in late), default=until) + rest
    first = energy(model, *columns(early), until)
    second = energy(model, *columns(late), stop, since=until)
    both = energy(model, *columns(early + late), stop)
    assert both.total_j == pytest.approx(first.total_j + second.total_j, rel=1e-9, abs=1e-9)
    assert both.transfer_j == pytest.approx([*first.transfer_j, *second.transfer_j], rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(models(), st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 100))))
def test_who_waits_for_the_promotion_is_charged_a_whole_one(
    model: RadioModel, wishes: Sequence[tuple[int, int]]
) -> None:
    transfers: Transfers = []
    waits, last, free = [], -math.inf, 0.0
    for gap, lasts in wishes:
        wish = free + gap / 64
        wait = 0.0 if wish - last < model.tail_s else model.promotion_s
        waits.append(wait)
        last = free = wish + wait + lasts / 64
        transfers.append((wish + wait, last, 1e6, 0.0))
    found = energy(model, *columns(transfers), free + 100)
    assert found.promotion_s.tolist() == waits


def test_a_single_transfer_costs_its_promotion_its_bits_and_a_whole_tail() -> None:
    # 10 kB at 5.6 Mbit/s.
    seconds = 80_000 / 5.6e6
    found = energy(LTE, [5.0], [5.0 + seconds], [80_000], [0], until=60.0)
    transfer = 80_000 * 438.39e-9 + 1.28804 * seconds
    assert found.promotion_j == pytest.approx([PROMOTION_J])
    assert found.active_j == pytest.approx([transfer])
    assert found.tail_j == pytest.approx([TAIL_J])
    idle = 60 - 0.2601 - seconds - 11.576
    assert found.idle_s == pytest.approx(idle)
    assert found.total_j == pytest.approx(PROMOTION_J + transfer + TAIL_J + 0.03 * idle, rel=1e-12)
    assert found.incremental_j == pytest.approx(found.total_j - 0.03 * 60, rel=1e-12)
    # The published orders of magnitude: 53 mJ of bits after 315 mJ of promotion.
    assert transfer == pytest.approx(0.0535, abs=5e-5)
    assert found.promotion_j == pytest.approx([0.315], abs=5e-4)


def test_a_rate_of_5_5_megabits_a_second_draws_3_699_watts() -> None:
    found = energy(LTE, [1.0], [2.0], [5.5e6], [0], until=2.0)
    assert found.active_j == pytest.approx([3.699], abs=5e-4)


def test_bits_in_no_time_cost_what_they_cost_by_the_bit() -> None:
    bits = energy(LTE, [5.0], [5.0], [80_000], [40_000], until=60.0)
    none = energy(LTE, [5.0], [5.0], [0], [0], until=60.0)
    assert bits.active_s.tolist() == [0.0]
    assert bits.total_j - none.total_j == pytest.approx(
        80_000 * LTE.up_w_per_bps + 40_000 * LTE.down_w_per_bps, rel=1e-9
    )


def test_two_transfers_within_the_tail_share_it() -> None:
    found = energy(LTE, [1.0, 6.0], [2.0, 7.0], [1e6, 2e6], [0, 4e6], until=7.0)
    assert found.promoted.tolist() == [True, False]
    assert found.tail_j == pytest.approx([1.2 + 3 * 1.06, 0])
    assert found.active_j == pytest.approx([1.28804 + 0.43839, 1.28804 + 2 * 0.43839 + 4 * 0.05197])
    assert found.idle_s == pytest.approx(1 - 0.2601)


def test_two_transfers_beyond_the_tail_pay_for_one_each() -> None:
    found = energy(LTE, [1.0, 30.0], [2.0, 31.0], [1e6, 1e6], [0, 0], until=100.0)
    assert found.promoted.tolist() == [True, True]
    assert found.promotion_j == pytest.approx([PROMOTION_J] * 2)
    assert found.tail_j == pytest.approx([TAIL_J] * 2)


def test_back_to_back_is_one_activity() -> None:
    apart = energy(LTE, [1.0, 2.0], [2.0, 3.0], [1e6, 1e6], [0, 0], until=20.0)
    whole = energy(LTE, [1.0], [3.0], [2e6], [0], until=20.0)
    assert apart.promoted.tolist() == [True, False]
    assert apart.tail_j == pytest.approx([0, TAIL_J])
    assert apart.total_j == pytest.approx(whole.total_j, rel=1e-12)


def test_the_base_power_of_transfers_at_once_counts_once() -> None:
    # The first encloses the second, and its tail is its own; the third overlaps the end of the first.
    found = energy(LTE, [1.0, 2.0, 4.0], [5.0, 3.0, 6.0], [4e6, 1e6, 2e6], [0, 0, 0], until=8.0)
    assert found.active_s.tolist() == [4, 0, 1]
    bits = 438.39e-9 * np.array([4e6, 1e6, 2e6])
    assert found.active_j == pytest.approx(1.28804 * np.array([4, 0, 1]) + bits)
    assert found.tail_s.tolist() == [0, 0, 2]
    enclosed = energy(LTE, [1.0, 2.0], [5.0, 3.0], [4e6, 1e6], [0, 0], until=8.0)
    assert enclosed.tail_s.tolist() == [3, 0]


def test_a_promotion_takes_the_time_that_there_was() -> None:
    # 0.1 s behind the end of the tail; and one that would begin before the span.
    late = energy(LTE, [1.0, 2 + 11.676], [2.0, 14.0], [0, 0], [0, 0], until=14.0)
    assert late.promoted.tolist() == [True, True]
    assert late.promotion_s == pytest.approx([0.2601, 0.1])
    first = energy(LTE, [0.0], [1.0], [0], [0], until=1.0)
    assert first.promotion_s == pytest.approx([0.2601])
    assert first.since == pytest.approx(-0.2601)
    assert first.idle_s == 0


def test_an_idle_radio_idles() -> None:
    found = energy(LTE, [], [], [], [], until=100.0, since=40.0)
    assert found.total_j == pytest.approx(0.03 * 60)
    assert found.incremental_j == 0


@pytest.mark.parametrize(
    ("transfers", "until", "message"),
    [
        (([2.0, 1.0], [3.0, 3.0], [0, 0], [0, 0]), 5, "transfer 1 has a start before that"),
        (([1.0, 2.0], [3.0, 1.0], [0, 0], [0, 0]), 5, "transfer 1 has an end before its start"),
        (([1.0], [math.nan], [0], [0]), 5, "transfer 0 has a start or an end that is no finite time"),
        (([1.0], [2.0], [0], [-8]), 5, "transfer 0 has down_bits below 0"),
        (([1.0], [2.0], [0, 1], [0]), 5, r"up_bits \(2,\) and starts \(1,\)"),
        (([1.0], [2.0, 3.0], [0], [0]), 5, r"starts \(1,\) and ends \(2,\)"),
        (([1.0], [6.0], [0], [0]), 5, r"the span from 0.0 s to 5 s does not hold"),
        (([-1.0], [1.0], [0], [0]), 5, r"the span from 0.0 s to 5 s does not hold"),
    ],
)
def test_impossible_transfers_are_refused(
    transfers: tuple[list[float], ...], until: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        energy(LTE, *transfers, until)


def test_impossible_radios_are_refused() -> None:
    with pytest.raises(ValueError, match="promotion_w is -1, and has to be 0 or more"):
        replace(LTE, promotion_w=-1)
    with pytest.raises(ValueError, match="seconds of tail phase 2 is inf"):
        replace(LTE, tail=((1, 1), (math.inf, 1)))
    with pytest.raises(ValueError, match="active_down_w is -1"):
        replace(LTE, active_down_w=-1)
