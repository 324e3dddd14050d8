from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from edge.link import Direction, LinkSpec
from fedsim.engines.plan import GroupPlan, Method, RunPlan
from fedsim.errors import SimulationError
from fedsim.hardware import find_device, find_radio
from fedsim.hardware.compute import Layer, Serving
from fedsim.hardware.models import lora_of
from fedsim.hardware.presets import TransportPart
from fedsim.hardware.quantity import Quantity
from fedsim.hardware.radio import RadioModel
from fedsim.hardware.transport import Transport
from fedsim.simulator.arrivals import ClosedLoop, Periodic, Poisson
from fedsim.simulator.availability import Spans
from fedsim.simulator.forecast import forecast, transport_said
from fedsim.simulator.material import Material
from fedsim.simulator.overhead import reply_frame_bytes, stream_bytes
from fedsim.simulator.stages import HostTimes, ServerTimes

SAMPLES = 12
HERE = HostTimes(
    "one",
    "0" * 16,
    0.002,
    0.003,
    ServerTimes(Serving(0.004, 0.001), 0.4),
    [Layer(10**6, 0)],
    [Layer(4 * 10**6, 0)],
)
MATERIAL = Material(
    rate=0.25,
    labels=np.arange(SAMPLES) % 10,
    predictions=np.arange(SAMPLES) % 9,
    ideal_bits=np.full(SAMPLES, 7900.0),
    payload_bytes=np.arange(SAMPLES) + 1000,
    frame_bytes=np.arange(SAMPLES) + 1010 + np.array([0] + [2] * (SAMPLES - 1)),
    failed=np.full(SAMPLES, "", object),
)
LINK = LinkSpec(Direction(rate_bps=1e6, delay_s=0.02), Direction(rate_bps=2e6, delay_s=0.03))
CLOSED = ClosedLoop()
METHOD = Method("one", Path("one"), False)
RADIO = RadioModel(0.01, 0.25, 1.0, 1.2, 1e-7, 1e-7, tail=((10.0, 1.0),))


def plan(*groups, cells=None, **more):
    return RunPlan(
        run="run",
        folder=Path("folder"),
        methods=(METHOD,),
        samples=Path("samples"),
        sample_count=SAMPLES,
        devices=(),
        workers=1,
        batch_size=1,
        batch_wait_ms=0.0,
        cells={"link": LINK} if cells is None else cells,
        seed=5,
        groups=groups,
        **more,
    )


def told(plan, method=METHOD, **more):
    return forecast(plan, method, HERE, [MATERIAL] * len(plan.groups), **more)


def stage(found, name):
    return found.records.filter(pc.equal(found.records["stage"], name)).to_pylist()


def seconds(found, name):
    return np.array([row["duration_s"] for row in stage(found, name)])


def test_one_device_alone_takes_the_sum_of_its_stages():
    found = told(plan(GroupPlan(1, 1, 10.0, CLOSED, cell="link")))
    assert found.notes == []
    send = {row["sample"]: row for row in stage(found, "send")}
    for row in stage(found, "total"):
        number = row["sample"]
        assert send[number]["frame_bytes"] == MATERIAL.frame_bytes[number]
        up = int(stream_bytes(MATERIAL.frame_bytes[number]))
        assert send[number]["wire_bytes"] == LINK.wire_bytes(up)
        reply = stream_bytes(
            reply_frame_bytes(number, number % 9, queue_s=1e-4, decode_s=0.002, tail_s=0.003)
        )
        down = LINK.wire_bytes(int(reply))
        assert send[number]["reply_wire_bytes"] == down
        on_the_way = 8 * LINK.wire_bytes(up) / 1e6 + 0.02 + 8 * down / 2e6 + 0.03
        assert send[number]["duration_s"] == pytest.approx(on_the_way, abs=1e-9)
        assert row["duration_s"] == pytest.approx(0.005 + on_the_way + 0.005, abs=1e-9)
        assert (row["outcome"], row["prediction"], row["label"]) == ("answered", number % 9, number % 10)
    assert [row["duration_s"] for row in stage(found, "decode")] == pytest.approx([0.002] * SAMPLES)


def test_a_run_is_a_function_of_its_seed():
    groups = [
        GroupPlan(3, 2, 1.0, Poisson(2.0), cell="link"),
        GroupPlan(2, 1, 1.0, Periodic(0.7), cell="link", device=find_device("raspberry-pi-4"), radio=RADIO),
    ]
    first, again = (told(plan(*groups, duration_s=60.0)).records for _ in range(2))
    assert first.equals(again)
    assert first.num_rows > 1000


def test_devices_share_the_samples_out_as_those_in_wall_time_do():
    found = told(plan(GroupPlan(5, 1, 10.0, CLOSED, cell="link")))
    mine = {}
    for row in stage(found, "total"):
        mine.setdefault(row["client"], []).append(row["sample"])
    assert mine == {f"device-{n}": list(range(n, SAMPLES, 5)) for n in range(5)}


def test_behind_the_last_sample_numbers_go_on_and_messages_grow_with_them():
    found = told(plan(GroupPlan(1, 1, 10.0, Periodic(1.0, 0.0)), duration_s=200.0))
    sends, totals = ({row["sample"]: row for row in stage(found, name)} for name in ("send", "total"))
    assert sorted(totals) == list(range(200))
    rounds = [[totals[n]["label"] for n in range(12 * k, 12 * k + 12)] for k in range(16)]
    assert all(sorted(one) == sorted(rounds[0]) for one in rounds)
    assert rounds[1] != rounds[0]
    for number, row in sends.items():
        longer = 0 if number == 0 else 2 if number < 128 else 3
        assert row["frame_bytes"] == row["payload_bytes"] + 10 + longer


def test_energy_is_whole():
    pi = find_device("raspberry-pi-4")
    found = told(plan(GroupPlan(2, 1, 10.0, Periodic(20.0, 0.0), pi, "link", RADIO), duration_s=100.0))
    joules = {name: [row["joules"] for row in stage(found, name)] for name in ("head", "encode", "send")}
    assert all(value > 0 for values in joules.values() for value in values)
    base, idle = stage(found, "base"), stage(found, "radio-idle")
    assert [row["joules"] for row in base] == pytest.approx([pi.power.idle.si * 100.0] * 2)
    assert [row["joules"] for row in idle] == pytest.approx([0.01 * 100.0] * 2)
    # Five inferences 20 s apart: each wakes the radio, and its tail of 10 s runs out; a little of another one
    # passes between question and answer.
    assert [row["joules"] for row in stage(found, "promotion")] == pytest.approx([5 * 0.25 * 0.99] * 2)
    assert [row["joules"] for row in stage(found, "radio-tail")] == pytest.approx(
        [5 * 10 * 0.99] * 2, rel=5e-3
    )
    assert any("raspberry-pi-4" in note and "encoder" in note for note in found.notes)


def test_without_a_device_there_is_no_energy():
    found = told(plan(GroupPlan(1, 1, 10.0, CLOSED, cell="link", radio=RADIO)))
    assert found.records["joules"].null_count == found.records.num_rows


def test_an_empty_battery_ends_a_device():
    pi = find_device("raspberry-pi-4")
    group = GroupPlan(1, 1, 10.0, Periodic(1.0, 0.0), pi, "link", RADIO, battery_j=100.0)
    found = told(plan(group, duration_s=600.0))
    (empty,) = stage(found, "battery-empty")
    assert 20 < empty["start_s"] < 100 / pi.power.idle.si
    assert max(row["start_s"] for row in stage(found, "total")) < empty["start_s"]
    assert any("1 of 1 devices of group 0 emptied their batteries" in note for note in found.notes)
    assert any("were due and never begun" in note for note in found.notes)


def test_what_is_due_while_a_device_is_away_is_left_out():
    away = Spans(((0.0, 10.0), (50.0, 55.0)))
    group = GroupPlan(1, 1, 10.0, Periodic(1.0, 0.0), cell="link", availability=away)
    found = told(plan(group, duration_s=100.0))
    assert [row["due_s"] for row in stage(found, "total")] == [*range(10), *range(50, 55)]
    assert [row["sample"] for row in stage(found, "total")] == [*range(10), *range(50, 55)]


def test_groups_that_name_a_cell_share_it():
    alone = told(plan(GroupPlan(1, 1, 10.0, CLOSED, cell="link")))
    shared = told(plan(*[GroupPlan(1, 1, 10.0, CLOSED, cell="link")] * 2))
    apart = told(
        plan(*[GroupPlan(1, 1, 10.0, CLOSED, cell=name) for name in "ab"], cells={"a": LINK, "b": LINK})
    )
    means = [np.mean([row["duration_s"] for row in stage(one, "send")]) for one in (alone, apart, shared)]
    assert means[1] == pytest.approx(means[0], rel=1e-3)
    assert means[2] > 1.05 * means[0]


def test_the_whole_network_on_the_device_sends_nothing():
    pi = find_device("raspberry-pi-4")
    local = Method("one", Path("one"), True)
    found = told(plan(GroupPlan(2, 1, 10.0, CLOSED, pi, "link", RADIO)), local)
    assert {row["outcome"] for row in stage(found, "total")} == {"local"}
    assert not stage(found, "send")
    assert [row["joules"] for row in stage(found, "radio-tail")] == [0.0, 0.0]


def test_too_much_is_refused():
    group = GroupPlan(1000, 1, 10.0, Poisson(100.0))
    with pytest.raises(SimulationError, match=r"more than 5,000,000 inferences; shorten duration_s"):
        told(plan(group, duration_s=86400.0))


def test_software_takes_its_time_on_the_way_there_and_back():
    run = plan(GroupPlan(1, 1, 60.0, CLOSED, cell="link"))
    plain, slower = told(run), told(run, software=Transport(4e-3, 1e-6))
    more = seconds(slower, "send") - seconds(plain, "send")
    assert more == pytest.approx(4e-3 + 1e-6 * MATERIAL.frame_bytes)
    for name in ("head", "queue", "tail"):
        assert seconds(slower, name) == pytest.approx(seconds(plain, name))


def test_a_device_file_says_itself_what_software_takes():
    device = find_device("raspberry-pi-4")
    here = device.sources | {"here": "this test"}
    known = {"source": "here", "how": "measured", "trust": "B", "verified": True}
    part = TransportPart(
        fixed=Quantity(value=9, unit="ms", **known), per_byte=Quantity(value=0, unit="s", **known)
    )
    told_by_file = device.model_copy(update={"transport": part, "sources": here})
    groups = [GroupPlan(1, 1, 60.0, CLOSED, one, "link") for one in (told_by_file, device)]
    assert [transport_said(group) for group in groups] == [Transport(9e-3), None]
    radio = lora_of(find_radio("lora"), 9)
    assert transport_said(GroupPlan(1, 1, 60.0, CLOSED, cell="link", radio=radio)) == Transport()


def test_lora_says_that_a_payload_does_not_fit():
    radio = lora_of(find_radio("lora"), 9)
    run = plan(GroupPlan(1, 1, 1e5, Periodic(300.0), cell="link", radio=radio), cells={"link": LinkSpec()})
    found = told(run)
    assert any("does not fit the duty cycle" in note and "every 300 s" in note for note in found.notes)
    # Frames wait for the duty cycle, and what they carry has no TCP and no gRPC around it.
    assert seconds(found, "send").min() > 300
    frames = radio.frame_count(MATERIAL.frame_bytes)
    carried = [row["wire_bytes"] for row in stage(found, "send")]
    assert carried == (MATERIAL.frame_bytes + frames * radio.header_bytes).tolist()


def test_what_is_not_known_of_energy_is_not_told():
    pi = find_device("raspberry-pi-4")
    dark = told(plan(GroupPlan(1, 1, 10.0, CLOSED, pi.model_copy(update={"power": None}), "link", RADIO)))
    assert "the powers of raspberry-pi-4 are not known: its joules are unavailable" in dark.notes
    for name in ("head", "total", "base"):
        assert {row["joules"] for row in stage(dark, name)} == {None}
    deaf = told(plan(GroupPlan(1, 1, 10.0, CLOSED, pi, "link")))
    assert "the radio of group 0 is not known: its joules are unavailable" in deaf.notes
    for name in ("send", "total", "radio-tail"):
        assert {row["joules"] for row in stage(deaf, name)} == {None}
    for name in ("head", "base"):
        assert min(row["joules"] for row in stage(deaf, name)) > 0


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("pause_s", [0.0, 3.0])
def test_a_closed_loop_lasts_as_long_as_it_is_asked_to(in_flight, pause_s):
    """Half a second each way: a sample takes little more than one."""
    link = LinkSpec(Direction(delay_s=0.5), Direction(delay_s=0.5))
    group = GroupPlan(1, in_flight, 10.0, ClosedLoop(pause_s), cell="link")
    found = told(plan(group, duration_s=600.0, cells={"link": link}))
    totals = stage(found, "total")
    assert max(row["start_s"] for row in totals) > 600 - 1.02 - pause_s
    assert max(row["start_s"] for row in totals) < 600
    slowest = 1.02 + pause_s
    assert len(totals) >= in_flight * 600 / slowest - in_flight if pause_s == 0 else len(totals) >= 145
    assert not found.notes  # nothing was due


def test_long_pauses_are_not_many_samples():
    groups = GroupPlan(20, 1, 10.0, ClosedLoop(600.0, random=True))
    totals = stage(told(plan(groups, duration_s=86400.0)), "total")
    assert len(totals) == pytest.approx(20 * 144, rel=0.1)


def test_lora_paces_a_closed_loop_for_a_day():
    radio = lora_of(find_radio("lora"), 9)
    group = GroupPlan(10, 1, 1e5, CLOSED, cell="link", radio=radio)
    found = told(plan(group, cells={"link": LinkSpec()}, duration_s=86400.0))
    each = len(stage(found, "total")) / 10
    assert each == pytest.approx(86400 / float(radio.period(1010)), rel=0.05, abs=2)


def test_without_a_duration_the_last_tail_counts():
    pi = find_device("raspberry-pi-4")
    found = told(plan(GroupPlan(2, 1, 10.0, CLOSED, pi, "link", RADIO)))
    assert [row["joules"] for row in stage(found, "radio-tail")] == pytest.approx([10 * 0.99] * 2, rel=0.1)


def test_a_battery_without_samples_runs_empty_too():
    pi = find_device("raspberry-pi-4")
    group = GroupPlan(1, 1, 10.0, Periodic(3600.0, 0.0), pi, "link", RADIO, battery_j=3600.0)
    found = told(plan(group, duration_s=3500.0))
    (empty,) = stage(found, "battery-empty")
    rest_w = pi.power.idle.si + 0.01
    assert empty["start_s"] == pytest.approx(3600 / rest_w, rel=0.02)
    spent = sum(
        row["joules"] or 0
        for name in ("total", "base", "promotion", "radio-tail", "radio-idle")
        for row in stage(found, name)
    )
    assert spent == pytest.approx(3600.0, rel=1e-6)
