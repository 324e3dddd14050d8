"""The engine with real server and device processes; what it does when one of them ends."""

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

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


def test_a_killed_server_ends_the_run_and_leaves_no_process(plan: RunPlan) -> None:
    slow = dataclasses.replace(plan, devices=(DevicePlan("device-0", 1, 60.0, None),))
    children = Path(f"/proc/self/task/{os.getpid()}/children")

    def kill_server() -> None:
        announce = plan.folder / "server.json"
        while not announce.exists():
            time.sleep(0.01)
        server = min(int(pid) for pid in children.read_text().split())
        os.kill(server, signal.SIGKILL)

    thread = threading.Thread(target=kill_server)
    thread.start()
    with pytest.raises(EngineError, match="server ended with exit code -9"):
        processes.run(slow, lambda _: None)
    thread.join()
    assert children.read_text().split() == []
