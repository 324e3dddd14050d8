"""The engine ``containers``: the programs of ``processes`` in containers, which docker compose starts.

This process runs in a container, too, and starts none. It writes what each of the others is to do into a
folder that all of them share, and leads them by named pipes in it, as ``processes`` leads its children by
theirs: a device says when it is ready for a method, and begins when it is let go; when this process ends,
however it does, the pipes close and the others stop.

::

    shared/ server/    arguments  in           serving            python -m edge.server @@arguments
            links/I/   arguments  in           serving            python -m edge.link   @arguments
            devices/N/ arguments  in  out      claimed  code      python -m edge.device @@arguments
            models/  samples.safetensors  schedules/  events/

A file ``stopping`` asks the run to end with what has been told.

Whoever comes first takes the first device that nobody has claimed. A device that ends without a word, because
its container was killed, is lost, and so are the samples that it had not told: they have failed, and the run
goes on without it. A server that ends is started again by its container's policy, and the devices go on.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edge.bundle import device_spec
from edge.journal import Journal
from edge.leash import READY
from edge.meter import Event
from fedsim.engines.plan import DevicePlan, Method, RunPlan
from fedsim.engines.programs import (
    SOME_SAMPLES_FAILED,
    FinishedSamples,
    device_arguments,
    link_arguments,
    server_arguments,
)
from fedsim.errors import EngineError
from fedsim.measure import ledger

__all__ = ["FOLDER", "let_rest", "run"]

#: Environment variable that says where the folder lies that the containers share.
FOLDER = "FEDSIM_SHARED"

_SERVER, _LINK = "tail", "link"  # names of the services, which are their hosts' names
_PORT, _LINK_PORT = 9000, 9100  # of the server, and of the first link
_POLL_S = 0.1
_COME_S = 120.0  # until a container has taken what it is to do, and serves
_END_S = 20.0  # until a link has written down what it carried
_ASKED = (130, 143)  # exit codes of what was sent SIGINT or SIGTERM
_STOPPED = (*_ASKED, 137)  # and of what was killed
_SILENT_S = 5.0  # that a device has no open pipe, until it is lost


def run(plan: RunPlan, report: Callable[[int], None]) -> list[str]:
    """Carry the plan out; return when every device has finished or is lost.

    Args:
        plan: what to run.
        report: called with the number of samples finished so far, a few times a second.

    Returns:
        which devices were lost, and how often the server was started again, in words.

    Raises:
        EngineError: there is no folder to share; no server, link or device comes; a link ends, or a device
            fails.
    """
    shared = _shared_folder()
    there = _relocated(plan, shared)
    plan.events.mkdir(parents=True)
    there.events.mkdir()
    opened: list[_Job] = []
    try:
        remote = any(not method.local for method in plan.methods)
        links = _put_between(there, shared, opened) if remote else {}
        between = list(opened)
        devices = []
        for number, device in enumerate(there.devices):
            address = f"{_SERVER}:{_PORT}" if device.cell is None else links.get(device.cell)
            arguments = device_arguments(there, number, device, address if remote else None)
            devices.append(_Device(device, shared / "devices" / str(number), arguments))
            opened.append(devices[-1])
        let_rest(shared)
        for job in between:  # they start at once with the devices, which take longer
            job.wait_until_it_serves()
        lost = _wait(there, devices, between, report)
        _end_links(plan, shared, links, opened)
    finally:
        for job in opened:
            job.close()
    for file in there.events.iterdir():  # once: a device that is on its way may still tell something
        shutil.copy(file, plan.events)
    _write_lost(plan, lost)
    if lost:
        shutil.copy(plan.events / "lost.jsonl", there.events)  # for whoever follows the run
    return [*lost.values(), *_restarts(shared)]


class _Job:
    """What a container is to do: arguments for its program, and a pipe that is its leash."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        os.mkfifo(folder / "in")
        # For reading, too: so it opens at once, and nobody who opens the other end waits.
        self._leash = os.open(folder / "in", os.O_RDWR)
        partial = folder / "arguments.partial"
        words = ["--leashed", str(folder), *arguments]
        partial.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        self._before_it_is_seen()
        partial.rename(folder / "arguments")

    def _before_it_is_seen(self) -> None:
        """What else has to be there when the container finds its arguments."""

    def code(self) -> int | None:
        """The exit code of its program; None while it has not said any."""
        with suppress(FileNotFoundError, ValueError):
            return int((self.folder / "code").read_text())
        return None

    @property
    def service(self) -> str:
        """The service whose containers do it."""
        return _SERVER if self.folder.name == "server" else _LINK

    def check(self) -> None:
        """See that it has not failed. Of a server nobody says: it is started again.

        Raises:
            EngineError: it has. Its devices would only wait for their deadlines.
        """
        if (code := self.code()) not in (None, 0, *_ASKED):
            raise EngineError(
                f"the service {self.service!r} ended with exit code {code}; its container's log says why"
            )

    def wait_until_it_serves(self) -> None:
        """Wait for its program to say that it listens.

        Raises:
            EngineError: it does not.
        """
        deadline = time.monotonic() + _COME_S
        while not (self.folder / "serving").exists():
            self.check()
            if time.monotonic() > deadline:
                raise EngineError(
                    f"the service {self.service!r} does not serve within {_COME_S:g} s; its log says why"
                )
            time.sleep(_POLL_S / 2)

    def send(self) -> None:
        """A line on its leash."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._leash, b"\n")

    def close(self) -> None:
        """Let its program stop."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1


class _Device(_Job):
    """A device in its container. It waits before each method until it is let go."""

    def __init__(self, plan: DevicePlan, folder: Path, arguments: list[str]) -> None:
        self.plan = plan
        self._output = -1
        self._said = b""
        self._opened = False  # by the device
        self._silent_since: float | None = None  # that its end of the pipe is not open
        super().__init__(folder, arguments)

    def _before_it_is_seen(self) -> None:
        os.mkfifo(self.folder / "out")
        self._output = os.open(self.folder / "out", os.O_RDONLY | os.O_NONBLOCK)

    def over(self, began: float, stopped: float | None = None) -> str | None:
        """None while it goes on; else how it was lost, and nothing where it was not.

        Args:
            began: when containers could first take it.
            stopped: when the run was asked to stop, where it was.

        Raises:
            EngineError: it has failed.
        """
        now = time.monotonic()
        if not (self.folder / "claimed").exists():
            return _absent(now - began > _COME_S, stopped is not None)
        self._listen(now)
        if (code := self.code()) is not None:
            if code not in (0, SOME_SAMPLES_FAILED, *_STOPPED):
                said = f"{self.plan.client} ended with exit code {code}; its container's log says why"
                raise EngineError(said)
            return "was stopped" if code in _STOPPED else ""
        # The code is written behind the end; and Python takes its time to begin.
        patience = _SILENT_S if self._opened else _COME_S
        if self._silent_since is not None and now - self._silent_since > patience:
            return "ended without a word: its container was killed"
        if stopped is not None and now - stopped > 2 * _SILENT_S:
            return "was on its way when the run was stopped"
        return None

    def _listen(self, now: float) -> None:
        """Read what it has said meanwhile."""
        while True:
            try:
                said = os.read(self._output, 4096)
            except BlockingIOError:  # it is there, and silent
                self._opened, self._silent_since = True, None
                return
            if not said:  # its end of the pipe is closed, or not open yet
                self._silent_since = now if self._silent_since is None else self._silent_since
                return
            self._opened = True
            self._said += said

    def waits(self) -> bool:
        """Whether it is ready for its next method."""
        return self._said.startswith(READY.encode()) and self._said.endswith(b"\n")

    def let_go(self) -> None:
        """Let it begin its next method."""
        self._said = b""
        self.send()

    def close(self) -> None:
        super().close()
        if self._output >= 0:
            os.close(self._output)
            self._output = -1


def _absent(late: bool, stopped: bool) -> str | None:
    """How a device was lost that no container has taken; None where one still may."""
    if stopped:
        return "had not come when the run was stopped"
    if late:
        return (
            f"did not come within {_COME_S:g} s: start as many containers as the scenario has devices "
            "(--scale device=N)"
        )
    return None


def _shared_folder() -> Path:
    """The folder that the containers share, which has nothing of an earlier run in it."""
    told = os.environ.get(FOLDER)
    if told is None or not Path(told).is_dir():
        raise EngineError(
            f"the engine 'containers' needs the folder that its containers share; {FOLDER} is "
            f"{'not set' if told is None else f'{told!r}, which is none'}. It is for docker compose up: "
            "see docs/containers.md"
        )
    folder = Path(told)
    try:
        for name in ("server", "links", "devices", "models", "schedules", "events"):
            if (folder / name).exists():
                shutil.rmtree(folder / name)
    except OSError as error:
        said = f"{error.filename}: {error.strerror}"
        raise EngineError(f"{folder} has an earlier run in it that cannot be removed: {said}") from None
    return folder


def _relocated(plan: RunPlan, shared: Path) -> RunPlan:
    """The plan with its files where all containers find them: each bundle has only what they need of it."""
    models = shared / "models"
    moved: dict[Path, Path] = {}
    fallbacks = [device.fallback for device in plan.devices if device.fallback is not None]
    for bundle in dict.fromkeys([*(method.bundle for method in plan.methods), *fallbacks]):
        moved[bundle] = models / bundle.name
        shutil.copytree(bundle, moved[bundle])
    shutil.copy(plan.samples, shared / "samples.safetensors")
    (shared / "schedules").mkdir()
    devices = []
    for device in plan.devices:
        schedule = device.schedule
        if schedule is not None:
            schedule = Path(shutil.copy(schedule, shared / "schedules"))
        fallback = None if device.fallback is None else moved[device.fallback]
        devices.append(replace(device, schedule=schedule, fallback=fallback))
    methods = tuple(replace(method, bundle=moved[method.bundle]) for method in plan.methods)
    samples = shared / "samples.safetensors"
    return replace(plan, folder=shared, methods=methods, samples=samples, devices=tuple(devices))


def _put_between(plan: RunPlan, shared: Path, opened: list[_Job]) -> dict[str, str]:
    """What the server and the links have to do; the address of each cell's link."""
    listen = ["--listen", f"0.0.0.0:{_PORT}"]
    arguments = [*server_arguments(plan), *listen, *_announced(shared / "server")]
    opened.append(_Job(shared / "server", arguments))
    links: dict[str, str] = {}
    for number, cell in enumerate(
        dict.fromkeys(device.cell for device in plan.devices if device.cell is not None)
    ):
        folder, port = shared / "links" / str(number), _LINK_PORT + number
        spec = shared / "links" / f"{cell}.json"
        spec.parent.mkdir(exist_ok=True)
        spec.write_text(plan.cells[cell].to_json() + "\n", encoding="utf-8")
        arguments = link_arguments(plan, cell, f"{_SERVER}:{_PORT}", spec, folder / "counters")
        arguments += ["--listen", f"0.0.0.0:{port}", *_announced(folder)]
        opened.append(_Job(folder, arguments))
        links[cell] = f"{_LINK}:{port}"
    return links


def let_rest(shared: Path) -> None:
    """Tell server, links and devices that whoever has been told nothing by now has nothing to do."""
    for name in ("links", "devices"):
        (shared / name).mkdir(exist_ok=True)
        (shared / name / "complete").touch()


def _announced(folder: Path) -> list[str]:
    return ["--announce", str(folder / "serving")]


def _wait(
    plan: RunPlan, devices: list[_Device], between: list[_Job], report: Callable[[int], None]
) -> dict[str, str]:
    """Lead the devices until all have ended; those that were lost, by their names, and how.

    Traces of links begin anew with each method, so that every method meets the same part of them.
    """
    counters = [FinishedSamples(plan.events / f"{device.plan.client}.jsonl") for device in devices]
    running, lost = list(devices), dict[str, str]()
    began, stopped = time.monotonic(), None
    while running:
        time.sleep(_POLL_S)
        if stopped is None and (plan.folder / "stopping").exists():
            stopped = time.monotonic()
        for device in list(running):
            if (why := device.over(began, stopped)) is None:
                continue
            running.remove(device)
            if why:
                lost[device.plan.client] = f"{device.plan.client} {why}"
        told = sum(counter.count() for counter in counters)
        report(told)
        if running and stopped is None:
            for job in between:
                job.check()
        if running and all(device.waits() for device in running):
            for job in between:
                job.send()
            for device in running:
                device.let_go()
    if len(lost) == len(devices) and not told:
        raise EngineError("no device has told of any sample: " + "; ".join(lost.values()))
    return lost


def _restarts(shared: Path) -> Iterator[str]:
    """How often the server was started again."""
    with suppress(FileNotFoundError):
        starts = len((shared / "server" / "starts").read_text().splitlines())
        if starts > 1:
            yield f"the server was started again, {starts - 1} time{'s' * (starts > 2)}"


def _end_links(plan: RunPlan, shared: Path, links: Mapping[str, str], opened: list[_Job]) -> None:
    """Let the links stop, and keep what they have carried."""
    for job in opened:
        job.close()
    for number, cell in enumerate(links):
        counters = shared / "links" / str(number) / "counters"
        deadline = time.monotonic() + _END_S
        while not counters.exists() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if counters.exists():
            plan.links.mkdir(exist_ok=True)
            shutil.copy(counters, plan.links / f"{cell}.json")


def _write_lost(plan: RunPlan, lost: Mapping[str, str]) -> None:
    """The samples that lost devices have not told, as failed ones."""
    if not lost:
        return
    told: dict[tuple[str, str], set[int]] = defaultdict(set)
    for event in ledger.read_events(plan.events) if any(plan.events.iterdir()) else ():
        if event.stage == "total" and event.sample is not None:
            told[event.client, event.method].add(event.sample)
    labels = load_file(plan.samples).get("labels")
    journal = Journal(plan.events / "lost.jsonl")
    try:
        for number, device in enumerate(plan.devices):
            if device.client in lost:
                for method in plan.methods:
                    known = told[device.client, method.name]
                    journal.append(_failed(plan, number, method, known, lost[device.client], labels))
    finally:
        journal.close()


def _failed(
    plan: RunPlan, number: int, method: Method, known: set[int], why: str, labels: NDArray[np.int64] | None
) -> Iterator[Event]:
    rate = device_spec(method.bundle).rate
    for sample in range(number, plan.sample_count, len(plan.devices)):
        if sample not in known:
            yield Event(
                run=plan.run,
                method=method.name,
                client=plan.devices[number].client,
                stage="total",
                start_s=time.time(),
                duration_s=0.0,
                provenance="unavailable",
                rate=rate,
                sample=sample,
                outcome="failed",
                label=None if labels is None else int(labels[sample]),
                detail=why,
            )
