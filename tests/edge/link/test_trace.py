"""Traces: exact integrals, their inverse, cycles, and what cannot be one."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.link import LinkError, Trace, markov_trace

SPANS = st.lists(st.floats(0.001, 100), min_size=1, max_size=8)
TIMES = st.floats(0, 1000)


@st.composite
def traces(draw, lowest=0.0):
    spans = draw(SPANS)
    rates = draw(st.lists(st.sampled_from([lowest, 1e3, 2.5e5, 1e6, 3e8]), min_size=len(spans)))[: len(spans)]
    repeat = draw(st.booleans())
    assume(any(rates) if repeat else rates[-1])
    ends = np.cumsum(spans)
    return Trace([0, *ends[:-1]], rates, repeat, duration_s=ends[-1])


def slowly(trace, start, end):
    """The integral, piece by piece."""
    total, at = 0.0, start
    while at < end:
        until = min(trace.next_change(at), end)
        total += trace.rate((at + until) / 2) * (until - at)
        at = until
    return total


def test_a_cycle_by_hand():
    trace = Trace([0, 1, 3], [1e6, 0, 2e6])
    assert trace.duration_s == 5  # the last rate holds as long as the one before it
    assert trace.mean_bits_per_s == 1e6
    assert trace.bits(0.5, 4) == 0.5e6 + 2e6
    assert trace.bits(4, 5.25 + 500) == 2e6 + 0.25e6 + 500e6
    assert trace.finish(0, 1e6) == 1  # not at the end of the silence behind it
    assert trace.finish(0, 1e6 + 1) == pytest.approx(3 + 1 / 2e6, abs=1e-12)
    assert trace.finish(2, 4e6) == 5
    assert trace.finish(2, 0) == 2
    assert trace.finish(504, 2.5e6) == 505.5
    assert [trace.rate(t) for t in (0, 0.99, 1, 3, 5, 6)] == [1e6, 1e6, 0, 2e6, 1e6, 0]
    assert [trace.next_change(t) for t in (0, 1, 4, 5)] == [1, 3, 5, 6]


def test_bits_that_end_with_a_pass_end_before_the_silence_behind_it():
    for total in (1.0, 0.1, 1 / 3):
        trace = Trace([0, 1, 2], [0, total, 0], duration_s=3)
        for passes in (1, 2, 3, 7, 100, 12345):
            # The last bit at the end of its piece, or, rounded up, the first of the next pass's.
            finish = trace.finish(0.5, passes * total)
            assert finish % 3 == pytest.approx(2, abs=1e-6) or finish % 3 == pytest.approx(0, abs=1e-6)
            assert trace.bits(0.5, finish) == pytest.approx(passes * total)
            assert trace.finish(np.array(0.5), np.array(passes * total)) == finish


def test_without_repetition_the_last_rate_holds_for_ever():
    trace = Trace([0, 2], [0, 1e6], repeat=False)
    assert trace.finish(0, 1e9) == 1002
    assert trace.bits(1, 1002) == 1e9
    assert trace.next_change(2) == math.inf
    assert trace.rate(1e9) == 1e6


@settings(deadline=None, max_examples=60)
@given(traces(), TIMES, st.floats(0, 200))
def test_bits_are_the_integral_of_the_rate(trace, start, span):
    end = start + span
    assert trace.bits(start, end) == pytest.approx(slowly(trace, start, end), rel=1e-9, abs=1e-3)


@settings(deadline=None, max_examples=60)
@given(traces(), TIMES, st.floats(0.001, 200))
def test_finish_is_the_inverse_of_bits(trace, start, span):
    end = start + span
    bits = trace.bits(start, end)
    finish = trace.finish(start, bits)
    # Earlier than asked only where nothing could be sent in between.
    assert finish <= end + 1e-8
    assert trace.bits(finish, max(finish, end)) == pytest.approx(0, abs=1e-8 * 3e8 + 1e-9 * bits)
    if trace.rate(finish) and trace.bits(min(finish, end), end + 1e-3) > 0 and trace.rate(end):
        assert trace.bits(start, finish) == pytest.approx(bits, rel=1e-9, abs=1)


@settings(deadline=None, max_examples=60)
@given(traces(lowest=1.0), TIMES, st.floats(0.001, 200))
def test_finish_of_bits_is_the_time_itself_where_the_rate_is_above_0(trace, start, span):
    end = start + span
    # A rate of 1 bit/s beside 3e8: the bits have 1e-7 of it in rounding.
    assume(trace.bits(start, end) < 1e5 or min(trace.bits_per_s) >= 1e3)
    assert trace.finish(start, trace.bits(start, end)) == pytest.approx(end, rel=1e-9, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(traces(), st.lists(st.tuples(TIMES, st.floats(0, 1e10)), min_size=1, max_size=5))
def test_arrays_give_what_scalars_give(trace, pairs):
    starts, amounts = (np.array(column) for column in zip(*pairs, strict=True))
    ends = trace.finish(starts, amounts)
    assert ends.tolist() == [trace.finish(start, bits) for start, bits in pairs]
    sent = trace.bits(starts, ends)
    assert sent.tolist() == [trace.bits(s, e) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]


def test_arrays_broadcast():
    trace = Trace([0], [1e6])
    assert trace.finish(np.array([0.0, 1.0]), 1e6).tolist() == [1, 2]
    assert trace.finish(1.0, np.array([[0.0], [1e6]])).tolist() == [[1], [2]]
    assert trace.bits(0.0, np.array([1.0, 2.0])).tolist() == [1e6, 2e6]


@pytest.mark.parametrize(
    ("times", "rates", "more", "message"),
    [
        ([], [], {}, "0 times and 0 rates; one rate for each"),
        ([0, 1], [1], {}, "2 times and 1 rates"),
        ([1, 2], [1, 1], {}, "begins at 1 s; the first time is 0"),
        ([0, 2, 2], [1, 1, 1], {}, "time 2 of a trace is 2 s after 2 s; times increase"),
        ([0, math.nan], [1, 1], {}, "time 1 of a trace is nan s"),
        ([0, 1], [1, -1], {}, "rate 1 of a trace is -1 bit/s; at least 0"),
        ([0, 1], [1, math.inf], {}, "rate 1 of a trace is inf"),
        ([0, 1], [1, 1], {"duration_s": 1}, "trace of 1 s whose last rate begins at 1 s; longer"),
        ([0, 1], [0, 0], {}, "0 for ever"),
        ([0, 1], [1, 0], {"repeat": False}, "0 for ever"),
    ],
)
def test_what_cannot_be_a_trace(times, rates, more, message):
    with pytest.raises(LinkError, match=message):
        Trace(times, rates, **more)


def test_times_and_amounts_below_0_are_refused():
    trace = Trace([0], [1e6])
    for ask in (
        lambda: trace.bits(-1, 1),
        lambda: trace.finish(-1, 1),
        lambda: trace.finish(0, -1),
        lambda: trace.finish(np.array([0.0]), np.array([-1.0])),
        lambda: trace.bits(np.array([-1.0]), np.array([0.0])),
    ):
        with pytest.raises(ValueError, match=r"at least 0|begins at 0 s"):
            ask()


def test_traces_are_values():
    assert Trace([0, 1], [1, 2]) == Trace(np.array([0, 1]), np.array([1, 2]))
    assert len({Trace([0, 1], [1, 2]), Trace((0.0, 1.0), (1.0, 2.0))}) == 1
    assert repr(Trace([0, 1], [1e6, 2e6])) == "Trace(2 rates over 2 s, mean 1.5e+06 bit/s, repeat=True)"


def test_a_markov_trace_is_that_of_its_seed_and_stays_as_long_as_asked():
    rates = [1e6, 2e6, 4e6]
    trace = markov_trace(5, rates, mean_stay_s=0.5, duration_s=2000)
    assert trace == markov_trace(5, rates, mean_stay_s=0.5, duration_s=2000)
    assert trace != markov_trace(6, rates, mean_stay_s=0.5, duration_s=2000)
    assert trace.duration_s == 2000
    steps = [
        rates.index(b) - rates.index(a) for a, b in zip(trace.bits_per_s, trace.bits_per_s[1:], strict=False)
    ]
    assert set(steps) == {-1, 1}
    stays = np.diff([*trace.times_s, trace.duration_s])
    # 4,000 exponential stays: their mean is within 4 standard errors.
    assert stays.mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(stays)))
    # Reflected at both ends, the chain is in the middle half of the time.
    assert trace.mean_bits_per_s == pytest.approx(0.25 * 1e6 + 0.5 * 2e6 + 0.25 * 4e6, rel=0.06)


def test_a_markov_trace_is_never_silent_throughout():
    for seed in range(20):
        assert markov_trace(seed, [0, 1e6], mean_stay_s=5, duration_s=0.1).mean_bits_per_s > 0
    with pytest.raises(LinkError, match="two at least, one above 0"):
        markov_trace(0, [0, 0])
    with pytest.raises(LinkError, match="above 0"):
        markov_trace(0, mean_stay_s=0)
