"""Descriptions of links: what they cost, their JSON, and what cannot be one."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.link import Direction, LinkError, LinkSpec, Trace, slotted_efficiency


@st.composite
def directions(draw):
    delay = draw(st.floats(0, 10))
    trace = draw(st.none() | st.just(Trace([0, 1.5], [1e6, 0], duration_s=4)))
    return Direction(
        rate_bps=None if trace else draw(st.none() | st.floats(1, 1e10)),
        delay_s=delay,
        jitter_s=delay * draw(st.floats(0, 1)),
        loss=draw(st.floats(0, 1, exclude_max=True)),
        queue_bytes=draw(st.none() | st.integers(1, 10**9)),
        trace=trace,
    )


@settings(deadline=None, max_examples=60)
@given(
    directions(),
    directions(),
    st.sampled_from(["alone", "processor", "fifo", "slotted"]),
    st.integers(1, 65536),
    st.integers(0, 100),
)
def test_json_brings_a_link_back(up, down, sharing, segment, header):
    spec = LinkSpec(up, down, sharing, segment, header)
    assert LinkSpec.from_json(spec.to_json()) == spec


def test_what_json_leaves_out_has_its_default():
    assert LinkSpec.from_json("{}") == LinkSpec()
    assert LinkSpec.from_json('{"up": {"rate_bps": 1e6}}') == LinkSpec(Direction(1e6))


def test_the_wire_bytes_of_a_message():
    spec = LinkSpec()
    sizes = [0, 1, 1448, 1449, 10_000_000]
    assert [spec.wire_bytes(n) for n in sizes] == [0, 67, 1514, 1581, 10_000_000 + 6907 * 66]
    assert [spec.packets(n) for n in sizes] == [0, 1, 1, 2, 6907]


def test_the_queue_holds_what_is_under_way_or_256_kib():
    assert Direction().queue_limit == 262144
    assert Direction(20e6, 0.025).queue_limit == 262144
    assert Direction(1e9, 0.1).queue_limit == 12_500_000
    assert Direction(trace=Trace([0, 1], [1e9, 3e9]), delay_s=0.1).queue_limit == 25_000_000
    assert Direction(1e9, 0.1, queue_bytes=3000).queue_limit == 3000


def test_when_bits_have_left():
    assert Direction().finish(5, 1e9) == 5
    assert Direction(2e6).finish(5, 1e6) == 5.5
    assert Direction(trace=Trace([0, 1], [0, 1e6])).finish(0, 2e6) == 4
    assert Direction().mean_bps == math.inf


def test_contention_wastes_slots():
    assert [slotted_efficiency(n) for n in (1, 2, 3)] == [1, 0.5, pytest.approx(4 / 9)]
    assert slotted_efficiency(100_000) == pytest.approx(1 / math.e, rel=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        slotted_efficiency(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate_bps": 0}, "rate_bps is 0; a number above 0"),
        ({"rate_bps": math.inf}, "rate_bps is inf"),
        ({"rate_bps": math.nan}, "rate_bps is nan"),
        ({"rate_bps": True}, "rate_bps is True"),
        ({"rate_bps": "1e6"}, "rate_bps is '1e6'"),
        ({"delay_s": -1}, "delay_s is -1; a number at least 0"),
        ({"jitter_s": 0.1}, "jitter_s is 0.1; at most delay_s, which is 0"),
        ({"loss": 1}, "loss is 1; a number at least 0 and below 1"),
        ({"queue_bytes": 0}, "queue_bytes is 0; a whole number of at least 1"),
        ({"queue_bytes": 1.5}, "queue_bytes is 1.5"),
        ({"rate_bps": 1, "trace": Trace([0], [1])}, "both given"),
        ({"trace": [1]}, r"trace is \[1\]; a trace, or none"),
    ],
)
def test_what_cannot_be_a_direction(arguments, message):
    with pytest.raises(LinkError, match=message):
        Direction(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sharing": "fair"}, "sharing is 'fair'; one of alone, processor, fifo, slotted"),
        ({"segment": 0}, "segment is 0; a whole number of at least 1"),
        ({"header": -1}, "header is -1; a whole number of at least 0"),
        ({"up": None}, "up is None; a direction"),
    ],
)
def test_what_cannot_be_a_link(arguments, message):
    with pytest.raises(LinkError, match=message):
        LinkSpec(**arguments)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "described by a JSON object"),
        ([], r"a link is \[\]; an object with up, down"),
        ({"rate": 1}, "a link has no 'rate'; it has up, down, sharing, segment, header"),
        ({"up": 5}, "up is 5; an object with rate_bps"),
        ({"up": {"rate": 5}}, "up has no 'rate'; it has rate_bps, delay_s"),
        ({"down": {"loss": 2}}, "down: loss is 2"),
        ({"up": {"trace": {"times_s": [0]}}}, "up: trace has no times_s or no bits_per_s"),
        ({"up": {"trace": {"times_s": [0], "rates": [1]}}}, "up: trace has no 'rates'"),
        ({"up": {"trace": {"times_s": [0, 0], "bits_per_s": [1, 1]}}}, "up: time 1 of a trace"),
        ({"up": {"trace": {"times_s": ["soon"], "bits_per_s": [1]}}}, "up: could not convert"),
        ({"up": {"trace": {"times_s": 0, "bits_per_s": [1]}}}, "up: 'int' object is not iterable"),
    ],
)
def test_a_fault_in_json_is_told_with_its_place(record, message):
    with pytest.raises(LinkError, match=message):
        LinkSpec.from_json(record if isinstance(record, str) else json.dumps(record))
