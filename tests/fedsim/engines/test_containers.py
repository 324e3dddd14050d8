"""The engine and the scripts of the containers, without containers: the same programs, pipes and files."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from edge.link import Direction, LinkSpec, Trace
from edge.meter import Event
from fedsim.engines import containers, inprocess
from fedsim.engines.plan import RunPlan
from fedsim.errors import EngineError
from fedsim.measure import ledger

from .plans import made, repeated, small

ROOT = Path(__file__).parents[3]

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return small(
        tmp_path,
        made(tmp_path, "local", None, "output"),
        made(tmp_path, "float32", "float32", "stage2", rate=0.5),
    )


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv(containers.FOLDER, str(folder))
    for name in ("_SERVER", "_LINK"):
        monkeypatch.setattr(containers, name, "127.0.0.1")
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    monkeypatch.setattr(containers, "_PORT", ports[0].getsockname()[1])
    monkeypatch.setattr(containers, "_LINK_PORT", ports[1].getsockname()[1])
    for port in ports:
        port.close()
    return folder


@pytest.fixture
def start(shared: Path) -> Iterator[Start]:
    """Starts a service, as its container would; all are ended behind the test."""
    started: list[subprocess.Popen[str]] = []
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def starts(service: str, **environment: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PATH": path, containers.FOLDER: str(shared), **environment}
        command = [str(ROOT / "docker" / service)]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=env, text=True, start_new_session=True, stderr=subprocess.PIPE
            )
        )
        return started[-1]

    yield starts
    (shared / "ended").touch()
    for service in started:
        if service.poll() is None:
            service.terminate()
            try:
                service.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(service.pid, signal.SIGKILL)
                service.wait(10)
        service.stderr.close()  # type: ignore[union-attr]


def totals(plan: RunPlan) -> list[Event]:
    events = ledger.read_events(plan.events)
    ledger.check(events, {method.name: set(range(plan.sample_count)) for method in plan.methods})
    return [event for event in events if event.stage == "total"]


def finished(shared: Path, number: int, client: str) -> None:
    """Wait until a device has told of so many samples."""
    file, deadline = shared / "events" / f"{client}.jsonl", time.monotonic() + 60
    while not file.exists() or file.read_text().count('"outcome"') < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def programs_of(service: subprocess.Popen[str]) -> list[int]:
    """The programs of fedsim that a service runs."""
    below = psutil.Process(service.pid).children(recursive=True) if service.poll() is None else []
    return [one.pid for one in below if any("edge." in word for word in one.cmdline())]


def child_of(service: subprocess.Popen[str]) -> int:
    """The program that a service runs."""
    (found,) = programs_of(service)
    return found


def test_every_sample_ends_once_and_its_bytes_are_those_of_other_engines(
    plan: RunPlan, start: Start, tmp_path: Path
) -> None:
    link = LinkSpec(Direction(20e6, 0.002), Direction(20e6, 0.002))
    devices = tuple(dataclasses.replace(device, cell="link-0") for device in plan.devices)
    linked = dataclasses.replace(plan, devices=devices, cells={"link-0": link})
    services = [start(name) for name in ("tail", "link", "device", "device", "device")]
    seen: list[int] = []
    assert containers.run(linked, seen.append) == []
    assert seen[-1] == plan.total_samples
    found = totals(plan)
    assert {event.outcome for event in found} == {"answered", "local"}
    assert {event.client for event in found} == {"device-0", "device-1"}
    sizes = {
        (event.method, event.sample): (event.payload_bytes, event.frame_bytes)
        for event in ledger.read_events(plan.events)
        if event.stage == "send"
    }
    other = dataclasses.replace(plan, folder=tmp_path / "other")
    inprocess.run(other, lambda _: None)
    assert sizes == {
        (event.method, event.sample): (event.payload_bytes, event.frame_bytes)
        for event in ledger.read_events(other.events)
        if event.stage == "send"
    }
    assert (plan.links / "link-0.json").exists()
    # Compose stops everything when one service ends: they stay, also the one that there was no device for.
    deadline = time.monotonic() + 20
    while any(programs_of(service) for service in services):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    assert [service.poll() for service in services] == [None] * 5


def test_samples_of_a_device_that_is_killed_have_failed_and_the_others_go_on(
    plan: RunPlan, shared: Path, start: Start
) -> None:
    plan = repeated(plan, 40)
    devices = {f"device-{number}": start("device", DEVICE=str(number)) for number in range(2)}
    start("tail")
    with killed(devices["device-1"], lambda: finished(shared, 5, "device-1")):
        (note,) = containers.run(plan, lambda _: None)
    assert note == "device-1 ended without a word: its container was killed"
    found = totals(plan)
    lost = [event for event in found if event.outcome == "failed"]
    assert {event.client for event in lost} == {"device-1"}
    assert {event.detail for event in lost} == {note}
    assert 0 < len(lost) <= plan.total_samples // 2 - 5
    numbered = [(event, event.sample % 21) for event in found if event.sample is not None]
    labels = {image: event.label for event, image in numbered if event.outcome != "failed"}
    assert all(event.label == labels[image] for event, image in numbered)


def test_a_tail_that_is_killed_is_started_again_and_nothing_is_lost(
    plan: RunPlan, shared: Path, start: Start
) -> None:
    plan = repeated(dataclasses.replace(plan, methods=plan.methods[1:]), 60)
    tail = start("tail")
    for _ in range(2):
        start("device")

    def policy() -> None:
        """What Docker does with restart: on-failure."""
        finished(shared, 5, "device-0")
        os.kill(child_of(tail), signal.SIGKILL)
        assert tail.wait(20) == 137
        start("tail")

    with meanwhile(policy):
        assert containers.run(plan, lambda _: None) == ["the server was started again, 1 time"]
    assert {event.outcome for event in totals(plan)} == {"answered"}


def test_a_device_that_does_not_come_is_lost(
    plan: RunPlan, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_COME_S", 15.0)
    start("tail")
    start("device")
    (note,) = containers.run(plan, lambda _: None)
    assert note.startswith("device-1 did not come within 15 s: start as many containers")
    assert sum(event.outcome == "failed" for event in totals(plan)) == 2 * 10


def test_devices_that_are_all_stopped_have_told_something(plan: RunPlan, shared: Path, start: Start) -> None:
    """What Compose does with all services when one of them ends."""
    plan = repeated(dataclasses.replace(plan, methods=plan.methods[1:]), 60)
    start("tail")
    devices = [start("device") for _ in range(2)]

    def stop() -> None:
        finished(shared, 5, "device-0")
        for device in devices:
            device.terminate()

    with meanwhile(stop):
        notes = containers.run(plan, lambda _: None)
    assert sorted(notes) == [f"device-{number} was stopped" for number in range(2)]
    outcomes = [event.outcome for event in totals(plan)]
    assert outcomes.count("answered") >= 5
    assert outcomes.count("failed") > 0
    assert [device.wait(10) for device in devices] == [143, 143]


def test_a_run_that_is_asked_to_stop_ends_with_what_was_told(
    plan: RunPlan, shared: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_SILENT_S", 0.5)
    plan = repeated(dataclasses.replace(plan, methods=plan.methods[1:]), 200)
    start("tail")
    devices = [start("device") for _ in range(2)]

    def stop() -> None:
        finished(shared, 5, "device-0")
        (shared / "stopping").touch()

    with meanwhile(stop):
        notes = containers.run(plan, lambda _: None)
    assert sorted(notes) == [
        f"device-{number} was on its way when the run was stopped" for number in range(2)
    ]
    outcomes = [event.outcome for event in totals(plan)]
    assert outcomes.count("answered") >= 5
    assert outcomes.count("failed") > 0
    deadline = time.monotonic() + 20
    while any(programs_of(device) for device in devices):  # which the leash stops
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_link_that_ends_is_told(plan: RunPlan, shared: Path, start: Start) -> None:
    plan = repeated(dataclasses.replace(plan, methods=plan.methods[1:]), 60)
    devices = tuple(dataclasses.replace(device, cell="link-0") for device in plan.devices)
    plan = dataclasses.replace(plan, devices=devices, cells={"link-0": LinkSpec(Direction(20e6))})
    link = start("link")
    for name in ("tail", "device", "device"):
        start(name)

    def kill() -> None:
        finished(shared, 5, "device-0")
        os.kill(child_of(link), signal.SIGKILL)

    with (
        meanwhile(kill),
        pytest.raises(EngineError, match=r"'127\.0\.0\.1' ended with exit code 137; its container's log"),
    ):
        containers.run(plan, lambda _: None)


def test_a_link_stops_when_it_is_asked_to_and_says_what_it_carried(shared: Path, start: Start) -> None:
    job = shared / "links" / "0"
    job.mkdir(parents=True)
    os.mkfifo(job / "in")
    leash = os.open(job / "in", os.O_RDWR)
    (shared / "link.json").write_text(LinkSpec(Direction(1e6)).to_json())
    words = ["--to", "127.0.0.1:9", "--spec", str(shared / "link.json"), "--leashed"]
    words += ["--counters", str(job / "counters"), "--announce", str(job / "serving")]
    (job / "arguments").write_text("\n".join(words) + "\n")
    (shared / "links" / "complete").touch()
    link = start("link")
    deadline = time.monotonic() + 20
    while not (job / "serving").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    link.terminate()
    assert link.wait(10) == 0
    assert (job / "counters").exists()
    os.close(leash)


def test_every_method_meets_the_same_part_of_a_trace(plan: RunPlan, start: Start) -> None:
    """A link that stands still from its fifth second on: without another beginning a method would, too."""
    first = plan.methods[1]
    again = dataclasses.replace(first, name="again")
    plan = repeated(dataclasses.replace(plan, methods=(first, again)), 3)
    devices = tuple(
        dataclasses.replace(device, cell="link-0", deadline_s=4.0, pace={first.name: (0.1, None)})
        for device in plan.devices
    )
    trace = Trace([0.0, 5.0], [50e6, 1e3], duration_s=3600.0)
    plan = dataclasses.replace(plan, devices=devices, cells={"link-0": LinkSpec(Direction(trace=trace))})
    for name in ("tail", "link", "device", "device"):
        start(name)
    assert containers.run(plan, lambda _: None) == []
    assert {event.outcome for event in totals(plan)} == {"answered"}


def test_a_model_that_a_device_cannot_load_is_told(plan: RunPlan, start: Start) -> None:
    (plan.methods[1].bundle / "device" / "model.json").unlink()
    for name in ("tail", "device", "device"):
        start(name)
    with pytest.raises(
        EngineError,
        match=r"device-\d ended with exit code 2; its container's log says why",
    ):
        containers.run(plan, lambda _: None)


def test_a_server_that_does_not_come_is_told(
    plan: RunPlan, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_COME_S", 0.3)
    with pytest.raises(EngineError, match=r"'127\.0\.0\.1' does not serve within 0\.3 s"):
        containers.run(plan, lambda _: None)


def test_without_a_folder_to_share_it_says_what_it_is_for(
    plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(containers.FOLDER, raising=False)
    with pytest.raises(EngineError, match=r"FEDSIM_SHARED is not set\. It is for docker compose up"):
        containers.run(plan, lambda _: None)


def test_services_end_when_the_run_has_ended_before_it_began(shared: Path, start: Start) -> None:
    services = [start(name) for name in ("tail", "link", "device")]
    (shared / "ended").touch()
    for service in services:
        assert service.wait(10) == 0
        assert "the run has ended before there was anything to do" in service.stderr.read()  # type: ignore[union-attr]


class meanwhile:  # noqa: N801
    """Something that happens in another thread; what it raised is raised at the end."""

    def __init__(self, run: Callable[[], None]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(run)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._future.result()


def killed(service: subprocess.Popen[str], when: Callable[[], None]) -> meanwhile:
    """A container is killed: everything in it, at once."""

    def kill() -> None:
        when()
        os.killpg(service.pid, signal.SIGKILL)
        service.wait(10)

    return meanwhile(kill)
