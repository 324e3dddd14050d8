import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.link.pacing import Flow, Pacer
from edge.link.spec import Direction, LinkSpec
from edge.link.trace import Trace
from fedsim.simulator.fleet import Cell
from fedsim.simulator.links import Place, placed, transfers

GENERATOR = np.random.default_rng(0)


def test_who_shares_is_in_one_cell():
    trace = Trace([0.0, 1.0], [1e6, 2e6])
    shared = LinkSpec(Direction(20e6), Direction(trace=trace), "fifo")
    alone = LinkSpec(Direction(1e6), Direction(), "alone")
    cells, places = placed([(shared, 3), (alone, 2)])
    assert places == [Place(0, 1)] * 3 + [Place(2, 3), Place(4, 5)]
    own = [Cell(1e6), Cell(np.inf)]
    assert cells == [Cell(20e6, "fifo"), Cell(trace, "fifo"), *own, *own]


@given(st.integers(0, 10**6), st.integers(1, 2000), st.integers(0, 100))
def test_a_message_costs_what_the_link_says(size, segment, header):
    spec = LinkSpec(Direction(1e6, delay_s=0.02), segment=segment, header=header)
    found = transfers(spec, spec.up, [size], GENERATOR)
    assert found.wire_bytes.tolist() == [spec.wire_bytes(size)]
    assert found.bits.tolist() == [8 * spec.wire_bytes(size)]
    assert found.delay_s.tolist() == [0.02]


def test_losses_cost_their_packets_once_more():
    spec = LinkSpec(Direction(1e6, loss=0.2))
    for size in (1448, 100 * 1448):
        found = transfers(spec, spec.up, np.full(20000 * 1448 // size, size), GENERATOR)
        assert found.bits.mean() == pytest.approx(8 * spec.wire_bytes(size) / 0.8, rel=0.02)
        assert (found.bits >= 8 * found.wire_bytes).all()
    assert transfers(spec, spec.up, [0], GENERATOR).bits.tolist() == [0]


def test_jitter_of_packets_that_leave_at_once_is_the_slowest_ones():
    spec = LinkSpec(Direction(delay_s=0.02, jitter_s=0.01))
    for packets in (1, 9):
        delay = transfers(spec, spec.up, np.full(20000, packets * 1448), GENERATOR).delay_s
        assert delay.min() >= 0.01
        assert delay.max() <= 0.03
        slowest = packets / (packets + 1)  # mean of the largest of n uniform numbers
        assert delay.mean() == pytest.approx(0.02 + 0.01 * (2 * slowest - 1), abs=2e-4)


def test_jitter_is_that_of_the_relay():
    """The relay's own arithmetic, message after message."""
    spec = LinkSpec(Direction(5.5e6, delay_s=0.035, jitter_s=0.01))
    size = 20_000
    pacer, flow, relayed = Pacer(spec.up, spec, 0.0, 3), Flow(0), []
    for number in range(3000):
        pacer.put(flow, bytes(size), float(number))
        last = 0.0
        while (due := pacer.due()) is not None:
            last = due
            pacer.arrived(due)
        relayed.append(last - number)
    found = transfers(spec, spec.up, np.full(3000, size), GENERATOR)
    ours = found.bits / 5.5e6 + found.delay_s
    for quantile in (0.05, 0.5, 0.95):
        assert np.quantile(ours, quantile) == pytest.approx(np.quantile(relayed, quantile), abs=1e-3)
