"""The engine with real server and device processes; what it does when one of them ends."""

import dataclasses
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.link import Direction, LinkSpec, Trace
from edge.meter import Event
from edge.schedule import Schedule
from fedsim.engines import inprocess, processes
from fedsim.engines.plan import DevicePlan, RunPlan
from fedsim.errors import EngineError
from fedsim.measure import ledger

from .plans import made, repeated, small


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return small(
        tmp_path,
        made(tmp_path, "local", None, "output"),
        made(tmp_path, "float32", "float32", "stage2"),
        made(tmp_path, "png", "png", "input"),
    )


def test_every_sample_of_every_method_ends_in_the_ledger_once(plan: RunPlan) -> None:
    seen: list[int] = []
    processes.run(plan, seen.append)
    events = ledger.read_events(plan.events)
    ledger.check(events, {method.name: set(range(21)) for method in plan.methods})
    assert seen[-1] == plan.total_samples
    assert seen == sorted(seen)
    totals = [event for event in events if event.outcome is not None]
    assert {event.outcome for event in totals if event.method == "local"} == {"local"}
    assert {event.outcome for event in totals if event.method != "local"} == {"answered"}
    assert {event.client for event in totals} == {"device-0", "device-1"}
    # The same network, wherever it runs and however its features travel.
    by_method = {
        method.name: {e.sample: e.prediction for e in totals if e.method == method.name}
        for method in plan.methods
    }
    assert by_method["local"] == by_method["float32"] == by_method["png"]


def test_without_a_remote_method_there_is_no_server(plan: RunPlan) -> None:
    local = dataclasses.replace(plan, methods=plan.methods[:1])
    processes.run(local, lambda _: None)
    assert sorted(path.name for path in (plan.folder / "logs").iterdir()) == ["device-0.log", "device-1.log"]


def test_a_server_that_cannot_start_is_an_error_that_says_why(plan: RunPlan) -> None:
    (plan.methods[1].bundle / "server" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(EngineError, match=r"server ended with exit code 2:\n.*weights\.safetensors"):
        processes.run(plan, lambda _: None)


def test_a_device_that_cannot_start_is_an_error_that_says_why(plan: RunPlan) -> None:
    (plan.methods[1].bundle / "device" / "model.json").unlink()
    with pytest.raises(EngineError, match=r"(?s)device-\d ended with exit code 2:\n.*model\.json"):
        processes.run(plan, lambda _: None)


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def kill(module: bytes) -> None:
    for pid in children():
        if module in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def test_a_killed_server_is_started_again_and_no_sample_is_lost(plan: RunPlan) -> None:
    busy = dataclasses.replace(repeated(plan, 20), methods=plan.methods[1:2])
    killed_at: list[int] = []

    def kill_server_once(finished: int) -> None:
        if not killed_at and finished > 20:
            killed_at.append(finished)
            kill(b"edge.server")

    remarks = processes.run(busy, kill_server_once)
    assert killed_at[0] < busy.sample_count
    assert remarks == ["the server ended with exit code -9 and was started again"]
    events = ledger.read_events(plan.events)
    ledger.check(events, {"float32": set(range(busy.sample_count))})
    assert {event.outcome for event in events} == {None, "answered"}
    assert children() == []


def test_a_server_that_dies_again_and_again_ends_the_run(plan: RunPlan) -> None:
    slow = dataclasses.replace(repeated(plan, 400), methods=plan.methods[1:2])

    def kill_it_again(finished: int) -> None:
        if finished:
            kill(b"edge.server")

    with pytest.raises(EngineError, match="server ended with exit code -9"):
        processes.run(slow, kill_it_again)
    assert children() == []


def test_devices_begin_each_method_together(plan: RunPlan) -> None:
    processes.run(plan, lambda _: None)
    totals = [event for event in ledger.read_events(plan.events) if event.stage == "total"]
    for earlier, later in itertools.pairwise(method.name for method in plan.methods):
        ends = max(event.start_s for event in totals if event.method == earlier)
        assert ends < min(event.start_s for event in totals if event.method == later)


def test_nothing_outlives_an_engine_that_is_killed(plan: RunPlan) -> None:
    code = """
import pickle, sys
from fedsim.engines import processes
processes.run(pickle.load(sys.stdin.buffer), lambda _: None)
"""
    engine = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert engine.stdin is not None
    with engine.stdin as pipe:
        pipe.write(pickle.dumps(repeated(plan, 400)))
    events = plan.events / "device-0.jsonl"
    wait_until(lambda: events.exists() and events.stat().st_size > 0)
    theirs = [int(p) for p in Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()]
    assert len(theirs) == 3
    engine.kill()
    engine.wait()
    wait_until(lambda: not any(alive(pid) for pid in theirs))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def behind_a_link(plan: RunPlan, **spec: Direction) -> RunPlan:
    """The plan with one method, whose devices share a cell."""
    devices = tuple(dataclasses.replace(device, cell="lte") for device in plan.devices)
    return dataclasses.replace(
        plan, methods=plan.methods[1:2], devices=devices, cells={"lte": LinkSpec(**spec), "idle": LinkSpec()}
    )


def stages(events: list[Event], client: str, stage: str) -> list[Event]:
    return sorted(
        (event for event in events if (event.client, event.stage) == (client, stage)),
        key=lambda event: event.start_s,
    )


def test_devices_share_a_link_keep_their_schedules_and_take_their_time(plan: RunPlan) -> None:
    linked = behind_a_link(plan, up=Direction(20e6, 0.025), down=Direction(delay_s=0.025))
    schedules = [plan.folder / "first.safetensors", plan.folder / "second.safetensors"]
    at = np.linspace(0.0, 0.5, 11)
    Schedule(at).write(schedules[0])
    Schedule(np.full(10, 0.01), paused=True).write(schedules[1])
    pace = {"float32": (0.06, 0.03)}
    first, second = linked.devices
    first = dataclasses.replace(first, schedule=schedules[0])
    second = dataclasses.replace(second, schedule=schedules[1], pace=pace)
    linked = dataclasses.replace(linked, devices=(first, second))
    assert processes.run(linked, lambda _: None) == []
    assert children() == []
    events = ledger.read_events(linked.events)
    ledger.check(events, {"float32": set(range(21))})
    assert {event.outcome for event in events} == {None, "answered"}

    # The schedule of the one, and the pauses of the other.
    begun = stages(events, "device-0", "total")
    due = [event.due_s or 0.0 for event in begun]
    assert [moment - due[0] for moment in due] == pytest.approx((at - at[0]).tolist(), abs=1e-5)
    assert all(event.start_s >= moment for event, moment in zip(begun, due, strict=True))
    paused = stages(events, "device-1", "total")
    for earlier, later in itertools.pairwise(paused):
        assert later.due_s == pytest.approx(earlier.start_s + earlier.duration_s + 0.01, abs=1e-5)

    # The pace of the other, and nobody else's.
    for name, least in zip(("head", "encode"), pace["float32"], strict=True):
        assert {event.provenance for event in stages(events, "device-0", name)} == {"measured"}
        for event in stages(events, "device-1", name):
            assert event.duration_s >= least
            assert event.provenance == "modelled"

    # The link: there and back, and on its counters.
    sends = [event for event in events if event.stage == "send"]
    assert min(event.duration_s for event in sends) >= 0.05
    assert float(np.median([event.duration_s for event in sends])) < 0.5
    carried = json.loads((plan.folder / "links" / "lte.json").read_text())
    frames = sum(event.frame_bytes or 0 for event in sends)
    assert carried["up"]["wire_bytes"] > carried["up"]["stream_bytes"] >= frames > 0
    assert len(carried["connections"]) == 2
    assert [path.name for path in (plan.folder / "links").iterdir()] == ["lte.json"]

    # What is sent does not depend on what it is sent over.
    plain = dataclasses.replace(linked, folder=plan.folder / "plain")
    inprocess.run(plain, lambda _: None)
    assert sizes(events) == sizes(ledger.read_events(plain.events))


def test_every_method_meets_the_same_part_of_a_trace(plan: RunPlan) -> None:
    # Over the first second a payload takes long, and from then on no time at all.
    trace = Trace([0.0, 1.0], [40e3, 50e6], repeat=False)
    linked = behind_a_link(repeated(plan, 4), up=Direction(trace=trace))
    methods = tuple(dataclasses.replace(linked.methods[0], name=name) for name in ("first", "second"))
    processes.run(dataclasses.replace(linked, methods=methods), lambda _: None)
    events = ledger.read_events(plan.events)
    for method in methods:
        sends = sorted(
            (event for event in events if (event.method, event.stage) == (method.name, "send")),
            key=lambda event: event.start_s,
        )
        alone_s = 8 * (sends[0].payload_bytes or 0) / 40e3
        assert alone_s > 0.05
        took = [event.duration_s for event in sends]
        assert sum(one >= alone_s for one in took[:10]) >= 3
        assert float(np.median(took[-20:])) < alone_s


def sizes(events: list[Event]) -> dict[int | None, tuple[int | None, int | None]]:
    return {e.sample: (e.payload_bytes, e.frame_bytes) for e in events if e.stage == "send"}


@pytest.mark.slow
def test_devices_come_back_over_their_link_to_a_server_that_was_killed(plan: RunPlan) -> None:
    busy = behind_a_link(repeated(plan, 10), up=Direction(delay_s=0.002))
    killed_at: list[int] = []

    def kill_server_once(finished: int) -> None:
        if not killed_at and finished > 20:
            killed_at.append(finished)
            kill(b"edge.server")

    remarks = processes.run(busy, kill_server_once)
    assert killed_at[0] < busy.sample_count
    assert remarks == ["the server ended with exit code -9 and was started again"]
    events = ledger.read_events(plan.events)
    ledger.check(events, {"float32": set(range(busy.sample_count))})
    assert {event.outcome for event in events} == {None, "answered"}
    carried = json.loads((plan.folder / "links" / "lte.json").read_text())
    assert len(carried["connections"]) >= 4


@pytest.mark.slow
def test_a_link_that_ends_is_an_error_that_names_it(plan: RunPlan) -> None:
    busy = behind_a_link(repeated(plan, 400))

    def kill_it(finished: int) -> None:
        if finished:
            kill(b"edge.link")

    with pytest.raises(EngineError, match="link-lte ended with exit code -9"):
        processes.run(busy, kill_it)
    assert children() == []


@pytest.mark.parametrize(
    ("device", "cells", "said"),
    [
        ({"cell": "wifi"}, {"lte": LinkSpec()}, "camera: a cell 'wifi'; there are lte"),
        ({"cell": "wifi"}, {}, "camera: a cell 'wifi'; there are none"),
        (
            {"pace": {"gif": (1.0, None)}},
            {},
            "camera: a pace of the method 'gif'; there are local, float32, png",
        ),
        ({}, {"a/b": LinkSpec()}, "a cell is called 'a/b'; a file has to be called so, too"),
    ],
)
def test_a_plan_that_cannot_be_is_an_error(
    plan: RunPlan, device: dict[str, Any], cells: dict[str, LinkSpec], said: str
) -> None:
    with pytest.raises(EngineError) as caught:
        dataclasses.replace(plan, devices=(DevicePlan("camera", 1, 10.0, None, **device),), cells=cells)
    assert str(caught.value) == said
