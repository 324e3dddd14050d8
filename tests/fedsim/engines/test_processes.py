"""The engine with real server and device processes; what it does when one of them ends."""

import dataclasses
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edge import bundle
from edge.bundle import ModelSpec
from fedsim import data
from fedsim.engines import processes
from fedsim.engines.plan import DevicePlan, Method, RunPlan
from fedsim.errors import EngineError
from fedsim.measure import ledger


def made(folder: Path, name: str, bottleneck: str | None, cut: str) -> Method:
    spec = ModelSpec(name, "digits-cnn", {"widths": [4, 6, 8]}, cut, None, (1, 8, 8), bottleneck)
    torch.manual_seed(0)
    model = bundle.build(spec).eval()
    bundle.save(model, spec, folder / "models" / name)
    return Method(name, folder / "models" / name, bottleneck is None)


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    dataset = data.load("digits")
    samples = tmp_path / "samples.safetensors"
    save_file({"images": dataset.x_test[:21], "labels": dataset.y_test[:21]}, samples)
    return RunPlan(
        run="test",
        folder=tmp_path,
        methods=(
            made(tmp_path, "local", None, "output"),
            made(tmp_path, "float32", "float32", "stage2"),
            made(tmp_path, "png", "png", "input"),
        ),
        samples=samples,
        sample_count=21,
        devices=tuple(DevicePlan(f"device-{n}", 1, 10.0, None) for n in range(2)),
        workers=1,
        batch_size=4,
        batch_wait_ms=0.0,
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


def kill_server() -> None:
    for pid in children():
        if b"edge.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def repeated(plan: RunPlan, times: int) -> RunPlan:
    dataset = data.load("digits")
    path = plan.folder / "more.safetensors"
    images, labels = dataset.x_test[:21], dataset.y_test[:21]
    save_file({"images": np.tile(images, (times, 1, 1, 1)), "labels": np.tile(labels, times)}, path)
    return dataclasses.replace(plan, samples=path, sample_count=21 * times)


def test_a_killed_server_is_started_again_and_no_sample_is_lost(plan: RunPlan) -> None:
    busy = dataclasses.replace(repeated(plan, 20), methods=plan.methods[1:2])
    killed_at: list[int] = []

    def kill_server_once(finished: int) -> None:
        if not killed_at and finished > 20:
            killed_at.append(finished)
            kill_server()

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
            kill_server()

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
