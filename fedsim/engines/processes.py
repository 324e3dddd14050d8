"""The engine ``processes``: one tail server process and a process for each device, on loopback.

They are the programs ``edge.server`` and ``edge.device``, just as they run on two machines.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedsim.engines.plan import DevicePlan, RunPlan
from fedsim.errors import EngineError

__all__ = ["run"]

_START_S = 60.0  # until the server serves
_STOP_S = 20.0  # until a process that was asked to stop is killed
_POLL_S = 0.2
_SOME_SAMPLES_FAILED = 4  # exit code of edge.device; the ledger says which


def run(plan: RunPlan, report: Callable[[int], None]) -> None:
    """Carry the plan out; return when every device has finished.

    Args:
        plan: what to run.
        report: called with the number of samples finished so far, a few times a second.

    Raises:
        EngineError: a process ended that should not have; repeats what it said. Nothing is left running.
    """
    plan.events.mkdir(parents=True)
    logs = plan.folder / "logs"
    logs.mkdir()
    with _server(plan, logs) as (server, address):
        devices: list[_Process] = []
        try:
            for number, device in enumerate(plan.devices):
                devices.append(_Process(device.client, _device_command(plan, number, device, address), logs))
            _wait(plan, server, devices, report)
        finally:
            _stop(devices)


class _Process:
    """A child whose output goes to a log file."""

    def __init__(self, name: str, command: list[str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("wb") as output:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._child.poll()

    def failure(self, code: int) -> EngineError:
        """Its end as an error, with the last lines that it wrote."""
        said = self.log.read_text(errors="replace").strip().splitlines()[-15:]
        return EngineError(
            f"{self.name} ended with exit code {code}:\n" + "\n".join(f"  {line}" for line in said)
        )

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.poll() is None:
            self._child.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        """Wait for its end, and kill it where it does not come."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()


@contextmanager
def _server(plan: RunPlan, logs: Path) -> Iterator[tuple[_Process | None, str | None]]:
    """The tail server and its address; nothing where every method runs on the device."""
    bundles = [method.bundle for method in plan.methods if not method.local]
    if not bundles:
        yield None, None
        return
    announce = plan.folder / "server.json"
    command = [sys.executable, "-m", "edge.server", "--listen", "127.0.0.1:0", "--announce", str(announce)]
    command += ["--workers", str(plan.workers), "--batch", str(plan.batch_size)]
    command += ["--wait-ms", str(plan.batch_wait_ms)]
    for bundle in bundles:
        command += ["--model", str(bundle)]
    server = _Process("server", command, logs)
    try:
        yield server, _announced(server, announce)
    finally:
        _stop([server])
        announce.unlink(missing_ok=True)


def _announced(server: _Process, announce: Path) -> str:
    deadline = time.monotonic() + _START_S
    while not announce.exists():
        code = server.poll()
        if code is not None:
            raise server.failure(code)
        if time.monotonic() > deadline:
            raise EngineError(f"the server does not serve after {_START_S:g} s; see {server.log}")
        time.sleep(_POLL_S / 4)
    return str(json.loads(announce.read_text())["address"])


def _device_command(plan: RunPlan, number: int, device: DevicePlan, address: str | None) -> list[str]:
    command = [sys.executable, "-m", "edge.device", "--run", plan.run, "--client", device.client]
    command += ["--samples", str(plan.samples), "--shard", f"{number}/{len(plan.devices)}"]
    command += ["--out", str(plan.events / f"{device.client}.jsonl")]
    command += ["--in-flight", str(device.in_flight), "--deadline", str(device.deadline_s)]
    if address is not None:
        command += ["--server", address]
    if device.fallback is not None:
        command += ["--fallback", str(device.fallback)]
    for method in plan.methods:
        command += ["--model", str(method.bundle)]
    return command


def _wait(
    plan: RunPlan, server: _Process | None, devices: list[_Process], report: Callable[[int], None]
) -> None:
    counters = [_FinishedSamples(plan.events / f"{device.client}.jsonl") for device in plan.devices]
    running = list(devices)
    while running:
        time.sleep(_POLL_S)
        for device in list(running):
            code = device.poll()
            if code is None:
                continue
            if code not in (0, _SOME_SAMPLES_FAILED):
                raise device.failure(code)
            running.remove(device)
        if server is not None and running:
            code = server.poll()
            if code is not None:
                raise server.failure(code)
        report(sum(counter.count() for counter in counters))


def _stop(processes: list[_Process]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(_STOP_S)


class _FinishedSamples:
    """Counts the samples that are final in an event file that is still being written."""

    _MARK = b'"outcome":'

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._count = 0

    def count(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._count += whole.count(self._MARK)
        return self._count
