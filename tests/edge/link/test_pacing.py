"""When packets leave and arrive, with a clock that the tests turn."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.link import Direction, LinkSpec, Trace, slotted_efficiency
from edge.link.pacing import Flow, Pacer

PACKET = 8 * 1514  # bits of a full packet
RATE = 20e6


def pacer(direction, seed=0, **spec):
    link = LinkSpec(up=direction, **spec)
    return Pacer(direction, link, 0.0, seed)


def run(line, puts, until=math.inf, looks=()):
    """Puts (time, flow, bytes), and looks at the line when it asks for it, and at ``looks`` besides.

    The arrivals: time at which they were due, flow and bytes.
    """
    puts, looks, found = sorted(puts, key=lambda put: put[0]), sorted(looks), []
    while True:
        due = line.due()
        now = min(
            math.inf if due is None else due,
            puts[0][0] if puts else math.inf,
            looks[0] if looks else math.inf,
        )
        if now == math.inf or now > until:
            return found
        while puts and puts[0][0] == now:
            _, flow, data = puts.pop(0)
            if data is None:
                line.end(flow, now)
            else:
                line.put(flow, data if isinstance(data, bytes) else bytes(data), now)
        if looks and looks[0] == now:
            looks.pop(0)
        found += [(now, flow, data) for flow, data in line.arrived(now)]


def ends(arrivals):
    """When the last byte of each flow arrived."""
    return {flow: time for time, flow, data in arrivals if data is not None}


def fluid(jobs, rate):
    """Processor sharing of a fluid: (arrival, bits) by name; when each is done."""
    left, done, now = dict(jobs), {}, 0.0
    left = {name: bits for name, (_, bits) in jobs.items()}
    while left:
        active = [name for name in left if jobs[name][0] <= now]
        arrivals = [at for at, _ in (jobs[name] for name in left) if at > now]
        following = min(arrivals, default=math.inf)
        if active:
            share = rate / len(active)
            following = min(following, now + min(left[name] for name in active) / share)
            for name in active:
                left[name] -= (following - now) * share
                if left[name] <= 1e-6:
                    del left[name]
                    done[name] = following
        now = following
    return done


def test_a_lone_packet_takes_its_time():
    flow = Flow("a")
    arrivals = run(pacer(Direction(RATE)), [(3.0, flow, 1448)])
    assert arrivals == [(pytest.approx(3 + PACKET / RATE, abs=1e-12), flow, bytes(1448))]
    assert arrivals[0][0] - 3.0 == pytest.approx(0.6056e-3, abs=1e-7)


@pytest.mark.parametrize("silence", [0.001, 1, 1000])
def test_a_silence_saves_nothing_up(silence):
    flow = Flow("a")
    line = pacer(Direction(RATE))
    run(line, [(0.0, flow, 20_000)])
    start = 0.1 + silence
    last = ends(run(line, [(start, flow, 20_000)]))[flow]
    assert last - start == pytest.approx(8 * LinkSpec().wire_bytes(20_000) / RATE, abs=1e-9)
    assert last - start == pytest.approx(8.37e-3, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 9000), min_size=1, max_size=6),
    st.lists(st.floats(0, 0.03), max_size=6),
)
def test_chunks_that_arrive_at_once_cost_as_one_message_whenever_somebody_looks(chunks, looks):
    flow = Flow("a")
    line = pacer(Direction(RATE, 0.01))
    arrivals = run(line, [(0.0, flow, n) for n in chunks], looks=looks)
    total = sum(chunks)
    assert ends(arrivals)[flow] == pytest.approx(0.01 + 8 * LinkSpec().wire_bytes(total) / RATE, abs=1e-9)
    assert line.carried.wire_bytes == flow.carried.wire_bytes == LinkSpec().wire_bytes(total)
    assert line.carried.packets == line.carried.transmissions == LinkSpec().packets(total)
    assert line.carried.stream_bytes == total
    assert line.carried.busy_s == pytest.approx(8 * LinkSpec().wire_bytes(total) / RATE)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=4000), min_size=1, max_size=20), st.integers(1, 3000))
def test_bytes_come_out_as_they_went_in(chunks, segment):
    flow = Flow("a")
    puts = [(0.001 * n, flow, chunk) for n, chunk in enumerate(chunks) if chunk]
    arrivals = run(pacer(Direction(1e6, 0.05, 0.05, 0.3), segment=segment), [*puts, (1.0, flow, None)])
    assert b"".join(data for _, _, data in arrivals[:-1]) == b"".join(chunks)
    assert arrivals[-1][2] is None
    times = [time for time, _, _ in arrivals]
    assert times == sorted(times)


def test_somebody_who_comes_late_finds_what_would_have_happened():
    a, b = Flow("a"), Flow("b")
    line = pacer(Direction(RATE))
    line.put(a, bytes(14_480), 0.0)
    line.put(b, bytes(1448), 0.0)  # second in turn
    late = line.arrived(1.0)
    assert [flow.key for flow, _ in late] == ["a", "b", *"aaaaaaaaa"]
    assert line.due() is None
    assert line.carried.busy_s == pytest.approx(11 * PACKET / RATE)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 40_000)), min_size=1, max_size=5),
    st.sampled_from([2e6, RATE, 1e8]),
)
def test_processor_sharing_is_that_of_a_fluid_to_the_packets_grain(jobs, rate):
    flows = [Flow(number) for number in range(len(jobs))]
    puts = [(at, flow, size) for flow, (at, size) in zip(flows, jobs, strict=True)]
    done = ends(run(pacer(Direction(rate)), puts))
    asked = fluid(
        {flow: (at, 8 * LinkSpec().wire_bytes(size)) for flow, (at, size) in zip(flows, jobs, strict=True)},
        rate,
    )
    # A flow is ahead or behind of its share by a packet at each arrival, its own included.
    grain = (len(jobs) + 1) * len(jobs) * PACKET / rate
    assert {flow.key: done[flow] for flow in flows} == {
        flow.key: pytest.approx(asked[flow], abs=grain) for flow in flows
    }
    assert max(done.values()) == pytest.approx(max(asked.values()), abs=1e-9)


def test_two_connections_of_different_sizes_share_a_link():
    long, short = Flow("long"), Flow("short")
    line = pacer(Direction(RATE))
    done = ends(run(line, [(0.0, long, 1448 * 100), (PACKET / RATE * 20, short, 1448 * 10)]))
    # 20 packets alone, then each in turn until the short one has had its 10, then alone.
    assert done[short] == pytest.approx(40 * PACKET / RATE, abs=1.5 * PACKET / RATE)
    assert done[long] == pytest.approx(110 * PACKET / RATE, abs=1e-9)


def test_fifo_serves_in_the_order_of_arrival():
    a, b = Flow("a"), Flow("b")
    puts = [(0.0, a, 14_480), (0.0, b, 1448), (0.0, a, 1000), (0.001, b, 100)]
    arrivals = run(pacer(Direction(RATE), sharing="fifo"), puts)
    assert [flow.key for _, flow, _ in arrivals] == [*"aaaaaaaaaa", "b", "a", "b"]
    assert [len(data) for _, _, data in arrivals] == [*[1448] * 11, 1000, 100]
    assert ends(arrivals)[b] == pytest.approx(8 * (15_928 + 1100 + 13 * 66) / RATE, abs=1e-9)


def test_delay_comes_behind_the_queue_and_does_not_fill_it():
    flow = Flow("a")
    arrivals = run(pacer(Direction(RATE, 0.025)), [(0.0, flow, 14_480)])
    assert [time for time, _, _ in arrivals] == pytest.approx(
        [0.025 + n * PACKET / RATE for n in range(1, 11)], abs=1e-12
    )


def test_without_a_limit_only_the_delay_is_left():
    flow = Flow("a")
    arrivals = run(pacer(Direction(delay_s=0.025)), [(1.0, flow, 10**6)])
    assert {time for time, _, _ in arrivals} == {1.025}


def test_jitter_is_uniform_about_the_delay_and_keeps_the_order():
    line = pacer(Direction(None, 0.02, 0.01))
    flows = [Flow(number) for number in range(2000)]
    alone = [time for time, _, _ in run(line, [(0.0, flow, 1) for flow in flows])]
    assert 0.01 <= min(alone) < 0.0102
    assert 0.0298 < max(alone) <= 0.03
    assert sum(alone) / len(alone) == pytest.approx(0.02, abs=4 * 0.01 / math.sqrt(3 * 2000))
    chatty = Flow("chatty")
    sent = [(n * 1e-4, chatty, n.to_bytes(2, "big")) for n in range(500)]
    got = run(line_at(line, 1.0), [(1.0 + at, flow, data) for at, flow, data in sent])
    assert [data for _, _, data in got] == [data for _, _, data in sent]


def line_at(line, now):
    assert line.arrived(now) == []
    return line


def test_loss_costs_transmissions_of_the_same_packet():
    flow = Flow("a")
    line = pacer(Direction(RATE, loss=0.2))
    packets = 20_000
    last = ends(run(line, [(0.0, flow, 1448 * packets)]))[flow]
    sent = line.carried.transmissions
    # Geometric: mean 1 / 0.8, variance 0.2 / 0.8**2; within 4 standard errors.
    assert sent / packets == pytest.approx(1.25, abs=4 * math.sqrt(0.2 / 0.64 / packets))
    assert last == pytest.approx(sent * PACKET / RATE, rel=1e-9)
    assert line.carried.packets == packets
    assert line.carried.wire_bytes == sent * 1514


@pytest.mark.parametrize("stations", [1, 2, 5])
def test_contention_takes_the_slots_that_theory_says(stations):
    line = pacer(Direction(RATE), sharing="slotted")
    packets = 2000
    flows = [Flow(n) for n in range(stations)]
    run(line, [(0.0, flow, 1448 * packets) for flow in flows])
    slots = line.carried.busy_s * RATE / PACKET
    efficiency = slotted_efficiency(stations)
    deviation = math.sqrt((1 - efficiency) / efficiency**2 * packets * stations)
    # The last rounds have fewer stations.
    assert slots == pytest.approx(packets * stations / efficiency, abs=4 * deviation + 10 * stations)
    assert line.carried.transmissions == packets * stations


def test_the_same_seed_gives_the_same_times():
    def times(seed):
        line = pacer(Direction(RATE, 0.02, 0.01, 0.1), seed=seed)
        return [time for time, _, _ in run(line, [(0.0, Flow("a"), 50_000)])]

    assert times(1) == times(1) != times(2)


def test_a_trace_says_when_a_packet_has_left():
    trace = Trace([0, 1], [PACKET, 0], duration_s=3)  # a packet in a second, then two of silence
    flow = Flow("a")
    line = pacer(Direction(trace=trace))
    arrivals = run(line, [(0.5, flow, 1448 * 3)])
    assert [time for time, _, _ in arrivals] == pytest.approx([3.5, 6.5, 9.5])


def test_a_change_takes_effect_behind_the_packet_in_service():
    flow = Flow("a")
    line = pacer(Direction(PACKET))  # a packet a second
    line.put(flow, bytes(1448 * 4), 0.0)
    faster = Direction(10 * PACKET)
    line.change(faster, LinkSpec(up=faster), 0.5)
    assert [time for time, _, _ in run(line, [])] == pytest.approx([1.0, 1.1, 1.2, 1.3])


def test_a_changed_trace_begins_anew_and_the_same_one_goes_on():
    trace = Trace([0, 1], [PACKET, 10 * PACKET], duration_s=2)
    flow = Flow("a")
    line = pacer(Direction(trace=trace))
    same = Direction(delay_s=0.5, trace=trace)
    line.change(same, LinkSpec(up=same), 1.0)
    assert ends(run(line, [(1.0, flow, 1448)]))[flow] == pytest.approx(1.6)
    other = Direction(trace=Trace([0, 1], [PACKET, 20 * PACKET], duration_s=2))
    line.change(other, LinkSpec(up=other), 5.5)
    assert ends(run(line, [(5.5, flow, 1448)]))[flow] == pytest.approx(6.5)


def test_a_trace_begins_anew_behind_the_packet_in_service():
    trace = Trace([0, 10], [PACKET, 10 * PACKET], duration_s=20)
    flow = Flow("a")
    line = pacer(Direction(trace=trace))
    line.put(flow, bytes(1448 * 12), 9.5)  # half a packet by 10 s, and ten a second from there on
    line.restart_trace(10.0)
    # The first ends at 10.05 s; the others find the trace's first rate until 20 s, 9.95 packets.
    expected = [10.05, *(10.05 + n for n in range(1, 10)), 20.005, 20.105]
    assert [time for time, _, _ in run(line, [])] == pytest.approx(expected)


def test_a_trace_begins_anew_on_an_idle_link_whose_last_packet_is_long_gone():
    flow = Flow("a")
    line = pacer(Direction(trace=Trace([0, 1], [PACKET, 10 * PACKET], duration_s=100)))
    assert ends(run(line, [(50.0, flow, 1448)]))[flow] == pytest.approx(50.1)
    line.restart_trace(60.0)
    assert ends(run(line, [(60.0, flow, 1448 * 2)]))[flow] == pytest.approx(61.1)


def test_without_a_trace_there_is_nothing_to_begin_anew():
    flow = Flow("a")
    line = pacer(Direction(PACKET))
    line.put(flow, bytes(1448 * 2), 0.0)
    line.restart_trace(0.5)
    assert [time for time, _, _ in run(line, [])] == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("first", ["fifo", "processor"])
def test_sharing_may_change_while_packets_wait(first):
    a, b = Flow("a"), Flow("b")
    line = pacer(Direction(RATE), sharing=first)
    for _ in range(5):
        line.put(a, bytes(3000), 0.0)
        line.put(b, bytes(500), 0.0)
    second = "processor" if first == "fifo" else "fifo"
    line.change(Direction(RATE), LinkSpec(up=Direction(RATE), sharing=second), 0.0001)
    line.put(b, bytes(100), 0.0002)
    arrivals = run(line, [])
    assert {flow: sum(len(d) for _, f, d in arrivals if f is flow) for flow in (a, b)} == {a: 15_000, b: 2600}
    assert line.due() is None


def test_the_end_of_a_stream_comes_behind_its_last_byte():
    flow, other = Flow("a"), Flow("b")
    line = pacer(Direction(RATE, 0.01))
    puts = [(0.0, flow, 5000), (0.0, other, 5000), (0.0, flow, None), (0.5, other, None)]
    arrivals = run(line, puts)
    of_flow = [data for _, key, data in arrivals if key is flow]
    assert [data is None for data in of_flow] == [False] * 4 + [True]
    assert arrivals[-1] == (0.51, other, None)


def test_a_dropped_flow_leaves_the_link_to_the_others():
    a, b = Flow("a"), Flow("b")
    line = pacer(Direction(RATE))
    line.put(a, bytes(144_800), 0.0)
    line.put(b, bytes(14_480), 0.0)
    line.drop(a, 0.0)
    line.drop(a, 0.0)
    done = ends(run(line, []))
    assert done[b] == pytest.approx(11 * PACKET / RATE)  # and the one of a's that was in service


@pytest.mark.parametrize("sharing", ["processor", "fifo", "slotted"])
def test_whatever_happens_all_bytes_arrive_and_busy_time_is_that_of_the_packets(sharing):
    chance = random.Random(3)
    line = pacer(Direction(1e6, 0.01, 0.005, 0.1), sharing=sharing)
    flows = [Flow(n) for n in range(5)]
    put = dict.fromkeys(flows, 0)
    puts = []
    for _ in range(200):
        flow, size = chance.choice(flows), chance.randint(1, 5000)
        put[flow] += size
        puts.append((chance.random() * 3, flow, size))
    arrivals = run(line, puts)
    assert {flow: sum(len(d) for _, f, d in arrivals if f is flow) for flow in flows} == put
    assert {flow: flow.carried.stream_bytes for flow in flows} == put
    assert sum((flow.carried for flow in flows[1:]), flows[0].carried).wire_bytes == line.carried.wire_bytes
    least = 8 * line.carried.wire_bytes / 1e6
    if sharing == "slotted":
        assert line.carried.busy_s > least
    else:
        assert line.carried.busy_s == pytest.approx(least)
