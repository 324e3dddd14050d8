"""Trace files: a rate over time in several spellings, Mahimahi's opportunities, and what is neither."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.link import LinkError, Trace, read_trace


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "a.trace"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "0\t1.5\n2\t0\n3\t4e1\n",
        "time_s,Mbit/s\n0,1.5\n2,0\n3,40\n",
        "# by train\n\n0 1.5\r\n2 0\r\n3 40\r\n",
        "t;rate\n100;1.5\n102;0\n103;40",
    ],
)
def test_a_rate_over_time(written, text):
    assert read_trace(written(text)) == Trace([0, 2, 3], [1.5e6, 0, 40e6], duration_s=4)


def test_which_may_not_repeat(written):
    assert not read_trace(written("0,1\n1,2"), repeat=False).repeat


def test_mahimahi_by_hand(written):
    trace = read_trace(written("1\n1\n3\n10\n"))
    opportunity = 1504 * 8
    assert trace.duration_s == 0.01
    sent = [round(trace.bits(0, ms / 1e3) / opportunity, 6) for ms in range(12)]
    assert sent == [0, 2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 6]
    assert trace.finish(0, opportunity) == pytest.approx(0.0005)
    assert trace.finish(0, 4 * opportunity) == pytest.approx(0.01)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=60).filter(any))
def test_as_many_opportunities_as_the_file_has_at_every_millisecond(tmp_path_factory, stamps):
    stamps.sort()
    path = tmp_path_factory.getbasetemp() / "any.trace"
    path.write_text("\n".join(map(str, stamps)))
    trace = read_trace(path)
    last = stamps[-1]
    assert trace.duration_s == last / 1e3
    for ms in range(0, last + 1, 7):
        # Those at 0 come at the end of the pass before, and so with the last of this one.
        by_then = sum(0 < stamp <= ms for stamp in stamps) + (ms == last) * stamps.count(0)
        assert trace.bits(0, ms / 1e3) / (1504 * 8) == pytest.approx(by_then, abs=1e-6)
    assert trace.bits(0, 3 * last / 1e3) / (1504 * 8) == pytest.approx(3 * len(stamps))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.trace: no line of numbers"),
        ("time,rate\n", "a.trace: no line of numbers"),
        ("time,rate\nand,more\n", "a.trace, line 2: 'and,more' are no numbers"),
        ("0,1\n1,fast\n", "a.trace, line 2: '1,fast' are no numbers"),
        ("0,1\n1,2,3\n", "a.trace, line 2: 3 columns; two, seconds and Mbit/s"),
        ("0,1\n\n0,2\n", "a.trace, line 3: time 0 s; later than the line before"),
        ("0,1\nnan,2\n", "a.trace, line 2: time nan s"),
        ("0,1\n1,-2\n", "a.trace, line 2: rate -2 Mbit/s; at least 0"),
        ("0,0\n1,0\n", "a.trace: a trace whose rate is 0 for ever"),
        ("5\n4\n", "a.trace, line 2: time 4 ms; a whole number, not before the line above"),
        ("5\n5.5\n", "a.trace, line 2: time 5.5 ms"),
        ("-1\n5\n", "a.trace, line 1: time -1 ms"),
        ("1\n2,3\n", "a.trace, line 2: 2 columns; one"),
        ("1\ninf\n", "a.trace, line 2: time inf ms"),
        ("0\n0\n", "a.trace: every delivery opportunity is at 0 ms"),
        (b"\xff\xfe1", "a.trace: not a text file"),
    ],
)
def test_a_fault_is_told_with_file_and_line(written, text, message):
    with pytest.raises(LinkError, match="trace .*" + message):
        read_trace(written(text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LinkError, match="nowhere: No such file"):
        read_trace(tmp_path / "nowhere")
