"""The event loop against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.link.pacing import Flow, Pacer
from edge.link.spec import Direction, LinkSpec
from edge.link.trace import Trace
from fedsim.errors import SimulationError
from fedsim.hardware.radio import RadioModel
from fedsim.simulator.fleet import Cell, Device, Round, Server, Work, simulate

NOTHING = Cell()
FOUR_PHASES = RadioModel(0, 0, 0, 0, 0, 0, ((1.0, 1.0),) * 4)
times = st.floats(0, 100, allow_nan=False)


def each(*values):
    return np.array(values, np.float64)


def device(at, **work):
    settings_of_device = {name: work.pop(name) for name in set(work) & set(Device.__dataclass_fields__)}
    return Device(Work(np.asarray(at, np.float64), **work), **{"up": 0, "down": 1, **settings_of_device})


def radio(promotion_s, tail_s, paging_s):
    return RadioModel(0.0, promotion_s, 1.0, 1.0, 0.0, 0.0, ((tail_s, 0.5),), paging_s)


def test_a_lone_sample_takes_the_sum_of_its_stages():
    one = device([2.0], compute_s=0.5, up_bits=1e6, up_delay_s=0.025, down_bits=8e3, down_delay_s=0.03)
    server = Server(batch=8, wait_s=0.002, fixed_s=0.004, each_s=0.001)
    found = simulate([Cell(20e6), Cell(1e6)], server, [one])
    stages = [0.5, 1e6 / 20e6, 0.025, 0.002, 0.005, 8e3 / 1e6, 0.03]
    assert found.took("due", "ended")[0] == pytest.approx(sum(stages), abs=1e-12)
    columns = ("started", "computed", "up_done", "arrived", "served", "done", "down_done", "ended")
    assert [found.at(name)[0] for name in columns] == pytest.approx(2.0 + np.cumsum([0.0, *stages]))


def test_processor_sharing_is_exact():
    """5 MB at 0 s and 1 MB at 0.5 s over 20 Mbit/s (reference measurement: 2.51 s and 0.85 s)."""
    fleet = [device([0.0], up_bits=40e6), device([0.5], up_bits=8e6)]
    found = simulate([Cell(20e6), NOTHING], Server(), fleet)
    assert found.took("up_begun", "up_done") == pytest.approx([2.4, 0.8], abs=1e-12)


def fluid(starts, bits, rate, share):
    """Ends of transfers that each have share(n) of the rate, by small brute force over all changes."""
    left, ends = np.array(bits, float), np.full(len(bits), np.nan)
    now = 0.0
    while np.isnan(ends).any():
        active = (np.array(starts) <= now) & np.isnan(ends)
        coming = [s for s in starts if s > now]
        if not active.any():
            now = min(coming)
            continue
        speed = rate * share(int(active.sum()))
        step = min([left[active].min() / speed, *(s - now for s in coming)])
        left[active] -= speed * step
        now += step
        done = active & (left <= 1e-6 * np.array(bits))
        ends[done] = now
    return ends


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(times, st.floats(1e3, 1e7)), min_size=1, max_size=8), st.booleans())
def test_shared_cells_are_the_fluid_model(transfers, contended):
    starts, bits = zip(*transfers, strict=True)
    fleet = [device([at], up_bits=size) for at, size in transfers]
    cell = Cell(1e6, "slotted" if contended else "processor")
    found = simulate([cell, NOTHING], Server(), fleet)
    share = (lambda n: (1 - 1 / n) ** (n - 1) / n if n > 1 else 1.0) if contended else (lambda n: 1 / n)
    assert found.at("up_done") == pytest.approx(fluid(starts, bits, 1e6, share), rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(times, st.floats(1e3, 1e7)), min_size=1, max_size=8))
def test_fifo_carries_one_behind_the_other(transfers):
    fleet = [device([at], up_bits=size) for at, size in transfers]
    found = simulate([Cell(1e6, "fifo"), NOTHING], Server(), fleet)
    through, expected = 0.0, {}
    for number in sorted(range(len(transfers)), key=lambda n: transfers[n][0]):
        through = max(through, transfers[number][0]) + transfers[number][1] / 1e6
        expected[number] = through
    assert found.at("up_done") == pytest.approx([expected[n] for n in range(len(transfers))], rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 1e6)), min_size=1, max_size=6),
    st.booleans(),
    times,
    st.floats(1, 1e7),
    st.sampled_from(["fifo", "processor"]),
)
def test_a_trace_is_followed_exactly(pieces, repeat, at, bits, sharing):
    begin = np.concatenate([[0.0], np.cumsum([length for length, _ in pieces])])
    speed = [rate + (1e4 if number == len(pieces) - 1 else 0.0) for number, (_, rate) in enumerate(pieces)]
    trace = Trace(begin[:-1], speed, repeat, begin[-1])
    found = simulate([Cell(trace, sharing), NOTHING], Server(), [device([at], up_bits=bits)])
    assert found.at("up_done")[0] == pytest.approx(trace.finish(at, bits), rel=1e-9, abs=1e-9)


def test_two_share_a_trace():
    trace = Trace([0.0, 1.0], [1e6, 3e6], True, 2.0)
    found = simulate(
        [Cell(trace), NOTHING], Server(), [device([0.0], up_bits=2e6), device([0.5], up_bits=1e6)]
    )
    # 0.5 Mbit alone, then 0.25 Mbit each until 1 s, then 1.5 Mbit/s each.
    assert found.at("up_done") == pytest.approx([1 + 0.75 / 1.5 + 0.5 / 3, 1.5], abs=1e-9)


def test_m_d_1_queue():
    """Mean wait rho s / (2 (1 - rho)) of Poisson arrivals at one worker with a constant time."""
    generator = np.random.default_rng(0)
    fleet = [
        device(np.cumsum(generator.exponential(10.0, 4000)), in_flight=1000) for _ in range(50)
    ]  # 5 a second
    found = simulate([NOTHING, NOTHING], Server(each_s=0.16), fleet)
    waits = found.took("arrived", "served")
    parts = [part.mean() for part in np.array_split(waits[np.argsort(found.at("arrived"))], 50)]
    expected = 0.8 * 0.16 / (2 * 0.2)
    assert abs(np.mean(parts) - expected) < 4 * np.std(parts) / np.sqrt(50)
    assert np.mean(parts) == pytest.approx(expected, rel=0.08)


def test_m_g_1_processor_sharing():
    """Mean time s / (1 - rho), whatever the sizes' distribution: each transfer on a connection of its own."""
    generator = np.random.default_rng(1)
    arrivals = np.cumsum(generator.exponential(0.2, 100_000))
    fleet = [device([at], up_bits=generator.choice([0.02e6, 0.26e6])) for at in arrivals]
    found = simulate([Cell(1e6), NOTHING], Server(workers=1000), fleet)
    took = found.took("up_begun", "up_done")
    parts = [part.mean() for part in np.array_split(took[np.argsort(found.at("up_begun"))], 50)]
    expected = 0.14 / (1 - 0.7)
    assert abs(np.mean(parts) - expected) < 4 * np.std(parts) / np.sqrt(50)


def test_batches_close_when_full_or_when_their_time_is_over():
    fleet = [device([at]) for at in (0.0, 0.01, 0.02, 0.5, 0.51)]
    found = simulate(
        [NOTHING, NOTHING], Server(workers=2, batch=3, wait_s=0.1, fixed_s=0.03, each_s=0.01), fleet
    )
    assert found.at("served") == pytest.approx([0.02, 0.02, 0.02, 0.6, 0.6])
    assert found.at("done") == pytest.approx([0.08, 0.08, 0.08, 0.65, 0.65])


def test_what_comes_while_all_work_gets_into_the_next_batch():
    fleet = [device([at]) for at in (0.0, 0.01, 0.02, 0.03, 0.04)]
    found = simulate([NOTHING, NOTHING], Server(batch=3, fixed_s=1.0), fleet)
    assert found.at("served") == pytest.approx([0.0, 1.0, 1.0, 1.0, 2.0])


def test_a_radio_wakes_stays_awake_and_is_paged():
    at = [0.0, 1.0, 20.0]
    one = device(at, up_bits=1e5, down_bits=1e5, radio=radio(0.26, 10.0, 1.28), paged=0.25)
    found = simulate([Cell(1e6), Cell(1e6)], Server(each_s=0.5), [one])
    assert found.took("computed", "up_begun") == pytest.approx([0.26, 0.0, 0.26])
    assert found.took("done", "down_begun") == pytest.approx([0.0] * 3)
    slow = simulate([Cell(1e6), Cell(1e6)], Server(each_s=15.0), [one])
    assert slow.took("done", "down_begun")[0] == pytest.approx(0.25 * 1.28 + 0.26)


def test_a_radio_that_listens_now_and_then_in_its_tail_hears_late():
    one = device(
        [0.0], up_bits=1e5, radio=replace(radio(0.0, 10.0, 1.28), drx_s=0.04, drx_after_s=0.1), paged=0.25
    )
    for served, waits in ((0.05, 0.0), (0.5, 0.01), (15.0, 0.32)):
        found = simulate([Cell(1e6), Cell(1e6)], Server(each_s=served), [one])
        assert found.took("done", "down_begun")[0] == pytest.approx(waits)


def test_devices_work_on_one_sample_after_the_other():
    found = simulate([NOTHING, NOTHING], Server(), [device([0.0, 0.1, 0.2], compute_s=1.0, in_flight=2)])
    assert found.at("started") == pytest.approx([0.0, 1.0, 2.0])
    answered = simulate([NOTHING, NOTHING], Server(each_s=5.0), [device([0.0, 0.1], compute_s=1.0)])
    assert answered.at("started") == pytest.approx([0.0, 6.0])


def test_a_closed_loop_pauses_behind_each_answer():
    one = device([0.5, 0.25, 0.0], paused=True, compute_s=1.0)
    found = simulate([NOTHING, NOTHING], Server(each_s=2.0), [one])
    assert found.at("started") == pytest.approx([0.5, 3.75, 6.75])
    assert found.at("due") == pytest.approx([0.5, 3.75, 6.75])


def paced(messages, rate, sharing):
    """When the relay's own arithmetic has the last bytes of each message; of (device, time, bytes)."""
    spec = LinkSpec(Direction(rate), sharing=sharing)
    pacer, flows = Pacer(spec.up, spec, 0.0, 0), {}
    starts: dict[int, list[tuple[int, int]]] = {}
    for number, (who, at, size) in enumerate(messages):
        flow = flows.setdefault(who, Flow(who))
        pacer.put(flow, bytes(size), at)
        starts.setdefault(who, []).append((number, size))
    ends, left = {}, {who: [list(pair) for pair in pairs] for who, pairs in starts.items()}
    while (due := pacer.due()) is not None:
        for flow, data in pacer.arrived(due):
            there = len(data)
            while there:
                first = left[flow.key][0]
                taken = min(there, first[1])
                first[1] -= taken
                there -= taken
                if first[1] == 0:
                    ends[left[flow.key].pop(0)[0]] = due
    return [ends[number] for number in range(len(messages))], spec


@pytest.mark.parametrize("sharing", ["processor", "fifo"])
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=1, max_size=12))
def test_messages_of_a_device_go_one_behind_the_other_as_on_the_relay(sharing, messages):
    """To the packet's grain: a round of packets, one of each connection, may be begun ahead or behind."""
    rate, packets = 1e6, [count for _, count in messages]
    listed = [(who, 0.01 * place, 1448 * count) for place, (who, count) in enumerate(messages)]
    expected, spec = paced(listed, rate, sharing)
    mine = {who: [place for place, one in enumerate(listed) if one[0] == who] for who in range(4)}
    fleet = [
        device(
            [listed[place][1] for place in places],
            up_bits=each(*[8 * spec.wire_bytes(1448 * packets[place]) for place in places]),
            in_flight=12,
        )
        for places in mine.values()
    ]
    found = simulate([Cell(rate, sharing), NOTHING], Server(workers=12), fleet)
    packet_s = 8 * spec.wire_bytes(1448) / rate
    for number, places in enumerate(mine.values()):
        ends = found.at("up_done")[found.device == number]
        assert ends == pytest.approx([expected[place] for place in places], abs=8.1 * packet_s)


def test_a_device_has_one_part_of_a_cell_however_many_samples_it_sends():
    many = device([0.0] * 4, up_bits=1e6, in_flight=4)
    one = device([0.0], up_bits=1e6)
    found = simulate([Cell(1e6), NOTHING], Server(), [many, one])
    assert found.at("up_done") == pytest.approx([2.0, 3.0, 4.0, 5.0, 2.0])
    assert found.at("up_begun") == pytest.approx([0.0, 2.0, 3.0, 4.0, 0.0])
    slotted = simulate([Cell(1e6, "slotted"), NOTHING], Server(), [many])
    assert slotted.at("up_done") == pytest.approx([1.0, 2.0, 3.0, 4.0])  # nobody to collide with


def test_answers_keep_their_order():
    one = device([0.0, 0.1], up_delay_s=each(1.0, 0.1), down_delay_s=0.1, in_flight=2)
    found = simulate([NOTHING, NOTHING], Server(workers=2), [one])
    assert found.at("arrived") == pytest.approx([1.0, 1.0])
    assert found.at("ended") == pytest.approx([1.1, 1.1])


def test_an_answer_that_is_overdue_is_not_waited_for():
    """2 s there and back, and half a second of patience from when a sample is computed."""
    one = device([0.0] * 3, paused=True, compute_s=0.1, up_delay_s=1.0, down_delay_s=1.0, deadline_s=0.5)
    found = simulate([NOTHING, NOTHING], Server(), [one])
    assert found.at("started") == pytest.approx([0.0, 0.6, 1.2])
    assert found.at("ended") == pytest.approx([0.6, 1.2, 1.8])
    assert found.jobs["missed"].tolist() == [1, 1, 1]
    assert found.at("down_done") == pytest.approx([1.1, 1.7, 2.3])  # they come all the same
    patient = simulate([NOTHING, NOTHING], Server(), [device([0.0], compute_s=9.0, deadline_s=0.5)])
    assert patient.jobs["missed"].tolist() == [0]  # its own time counts for nothing


def test_of_several_the_oldest_is_given_up_first():
    times_down = each(1.0, 5.0, 0.2, 5.0)
    one = device([0.0, 0.1, 0.2, 0.3], down_delay_s=times_down, in_flight=4, deadline_s=3.0)
    found = simulate([NOTHING, NOTHING], Server(workers=4), [one])
    assert found.jobs["missed"].tolist() == [0, 1, 1, 1]  # the third answer comes behind the second
    assert found.at("ended") == pytest.approx([1.0, 3.1, 3.2, 3.3])


def test_of_what_sends_nothing_nothing_is_heard():
    one = device([0.0, 0.0], compute_s=0.5, up_bits=1e6, sent=np.array([False, True]))
    found = simulate([Cell(1e6), NOTHING], Server(), [one])
    assert found.at("ended") == pytest.approx([0.5, 2.0])
    assert np.isnan(found.at("arrived")).tolist() == [True, False]


def test_what_waits_for_its_turn_does_not_flow():
    found = simulate([Cell(1e6, "fifo"), NOTHING], Server(), [device([0.0], up_bits=1e6) for _ in range(3)])
    assert found.at("up_begun") == pytest.approx([0.0, 1.0, 2.0])
    assert found.took("up_begun", "up_done") == pytest.approx([1.0] * 3)


def test_a_trace_that_ends_in_an_outage_is_left():
    """Where rounding says whether the last bit flows ahead of the outage or behind it."""
    trace = Trace([0, 0.003, 0.007, 0.011], [0, 0, 12.032e6, 0], duration_s=0.014)
    one = device([21229.49], up_bits=16507904.0)
    for sharing in ("processor", "fifo"):
        found = simulate([Cell(trace, sharing), NOTHING], Server(), [one])
        assert found.at("up_done")[0] == pytest.approx(trace.finish(21229.49, 16507904.0), abs=0.0101)


def test_who_has_gone_begins_nothing():
    found = simulate([NOTHING, NOTHING], Server(), [device([0.0, 1.0, 2.0], compute_s=0.1, until_s=1.5)])
    assert np.isnan(found.at("ended")).tolist() == [False, False, True]
    assert np.isnan(found.times[2]).all()


def reply(devices, **values):
    count = len(devices)
    names = ("down_bits", "compute_s", "up_bits", "delay_s")
    arrays = {name: np.broadcast_to(np.asarray(values.pop(name, 0.0), float), count) for name in names}
    return Round(np.array(devices), **arrays, **values)


def test_rounds_follow_each_other_and_wait_for_the_slowest():
    fleet = [device([]), device([])]
    one = reply([0, 1], down_bits=1e6, compute_s=each(1.0, 3.0), up_bits=2e6, delay_s=0.1, merge_s=0.5)
    found = simulate([Cell(1e6), Cell(2e6)], Server(), fleet, [one, one], rounds_start_s=10.0)
    first = 10 + 1.0 + 0.1 + each(1.0, 3.0) + 2.0 + 0.1  # down shared by two; up each alone, or nearly so
    assert found.at("ended")[:2] == pytest.approx(first)
    assert found.at("ended")[2:] == pytest.approx(first - 10 + first[1] + 0.5)
    assert found.round.tolist() == [0, 0, 1, 1]
    assert not found.of_samples.any()


def test_a_deadline_leaves_the_late_out():
    fleet = [device([]), device([])]
    late = reply([0, 1], compute_s=each(1.0, 30.0), deadline_s=5.0)
    found = simulate([NOTHING, NOTHING], Server(), fleet, [late, reply([0])])
    assert found.at("ended") == pytest.approx(each(1.0, np.nan, 5.0), nan_ok=True)


def test_a_round_without_anybody_ends_at_once():
    fleet = [device([], until_s=0.0), device([])]
    found = simulate([NOTHING, NOTHING], Server(), fleet, [reply([0]), reply([1], compute_s=2.0)])
    assert found.at("ended") == pytest.approx(each(np.nan, 2.0), nan_ok=True)


def test_rounds_and_samples_share_processor_and_link():
    one = device([0.0, 1.0], compute_s=0.5, up_bits=1e6)
    found = simulate([Cell(1e6), NOTHING], Server(), [one], [reply([0], compute_s=2.0, up_bits=1e6)], 0.25)
    samples, rounds = found.times[found.of_samples], found.times[~found.of_samples]
    names = {"started": 1, "computed": 2, "up_done": 4}
    assert rounds[0, names["started"]] == pytest.approx(0.5)
    assert rounds[0, names["computed"]] == pytest.approx(2.5)
    assert samples[1, names["started"]] == pytest.approx(2.5)
    assert samples[1, names["up_done"]] == pytest.approx(4.5)  # shared for half a second
    assert rounds[0, names["up_done"]] == pytest.approx(4.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["processor", "fifo", "slotted"]), st.integers(1, 3))
def test_everything_ends_in_order_and_nothing_is_lost(seed, sharing, in_flight):
    generator = np.random.default_rng(seed)
    fleet = [
        device(
            np.sort(generator.random(6)) * 10 if number % 2 else generator.random(6),
            paused=number % 2 == 0,
            compute_s=generator.random(6) / 10,
            up_bits=generator.random(6) * 1e6,
            down_bits=generator.random(6) * 1e4,
            up_delay_s=generator.random(6) / 100,
            in_flight=in_flight,
            radio=radio(0.1, 0.5, 1.0),
        )
        for number in range(5)
    ]
    server = Server(2, 3, 0.01, 0.02, 0.01)
    found = simulate([Cell(1e6, sharing), Cell(1e5)], server, fleet)
    assert not np.isnan(found.times).any()
    assert (np.diff(found.times, axis=1) >= -1e-12).all()
    again = simulate([Cell(1e6, sharing), Cell(1e5)], server, fleet)
    assert found.jobs.tobytes() == again.jobs.tobytes()
    for number in range(5):
        mine = found.times[found.device == number]
        busy = mine[:, 1], mine[:, 10]
        for sample in range(in_flight, 6):  # never more than so many without an answer
            assert busy[0][sample] >= np.sort(busy[1][:sample])[sample - in_flight] - 1e-12


@pytest.mark.parametrize(
    ("cells", "devices", "message"),
    [
        ([NOTHING], [device([0.0])], "device 0: down is cell 1, and there are 1"),
        ([NOTHING] * 2, [], "a fleet without a device"),
        ([NOTHING] * 2, [device([1.0, 0.0])], "device 0: its samples are not in the order of their times"),
        ([NOTHING] * 2, [device([1.0], up_bits=-1.0)], "device 0: up_bits of a sample is -1, allowed is 0"),
        (
            [NOTHING] * 2,
            [device([1.0], up_bits=each(1, 2))],
            r"up_bits has the shape \[2\]; allowed are a number",
        ),
        ([NOTHING] * 2, [device([1.0], in_flight=0)], "device 0: in_flight is 0, allowed is 1 and more"),
        ([NOTHING] * 2, [device([1.0], deadline_s=0.0)], "device 0: deadline_s is 0.0, allowed is a number"),
        ([NOTHING] * 2, [device([1.0], until_s=np.nan)], "device 0: until_s is nan, allowed is 0 and more"),
        ([NOTHING] * 2, [device([1.0], radio=FOUR_PHASES)], "its radio's tail has 4 phases, allowed are 3"),
    ],
)
def test_what_does_not_fit_is_said(cells, devices, message):
    with pytest.raises(SimulationError, match=message):
        simulate(cells, Server(), devices)


def test_cells_and_servers_are_checked():
    with pytest.raises(
        SimulationError, match="cell: sharing is 'csma', allowed are processor, fifo, slotted"
    ):
        Cell(1e6, "csma")
    with pytest.raises(SimulationError, match="cell: rate is 0"):
        Cell(0)
    with pytest.raises(SimulationError, match="server"):
        Server(workers=0)
    with pytest.raises(SimulationError, match="round 0"):
        simulate([NOTHING] * 2, Server(), [device([0.0])], [reply([0, 0])])
