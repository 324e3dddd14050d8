"""The engine ``processes``: one tail server process and a process for each device, on loopback.

They are the programs ``edge.server`` and ``edge.device``, just as they run on two machines. All
devices begin each method together, so that its latency is measured under its own load. A server that
dies is started again at the same address, and the devices go on; nothing outlives the engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge.leash import READY
from fedsim.engines.plan import DevicePlan, RunPlan
from fedsim.errors import EngineError

__all__ = ["run"]

_START_S = 60.0  # until the server serves
_STOP_S = 20.0  # until a process that was asked to stop is killed
_POLL_S = 0.1
_RESTARTS = 2  # of a server that dies
_SOME_SAMPLES_FAILED = 4  # exit code of edge.device; the ledger says which


def run(plan: RunPlan, report: Callable[[int], None]) -> list[str]:
    """Carry the plan out; return when every device has finished.

    Args:
        plan: what to run.
        report: called with the number of samples finished so far, a few times a second.

    Returns:
        what went wrong on the way and was mended, in words.

    Raises:
        EngineError: a device ended that should not have, or the server does so again and again;
            repeats what it said. Nothing is left running.
    """
    plan.events.mkdir(parents=True)
    logs = plan.folder / "logs"
    logs.mkdir()
    processes: list[_Process] = []
    try:
        server = None
        if any(not method.local for method in plan.methods):
            server = _Server(plan, logs)
            processes.append(server)
        devices = [
            _Device(device.client, _device_command(plan, number, device, server), logs)
            for number, device in enumerate(plan.devices)
        ]
        processes.extend(devices)
        _wait(plan, server, devices, report)
        return server.restarts if server is not None else []
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(_STOP_S)


class _Process:
    """A child on a leash: it ends when this process does. Its messages go to a log file."""

    def __init__(self, name: str, command: list[str], logs: Path, stdout: int | None = None) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = command
        self._stdout = stdout
        self._child = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output if self._stdout is None else self._stdout,
                stderr=output,
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

    def wait(self, timeout: float) -> None:
        """Wait for its end, and kill it where it does not come."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


class _Server(_Process):
    """The tail server; serves when constructed."""

    def __init__(self, plan: RunPlan, logs: Path) -> None:
        self._announcement = plan.folder / "server.json"
        command = [sys.executable, "-m", "edge.server", "--leashed", "--announce", str(self._announcement)]
        command += ["--workers", str(plan.workers), "--batch", str(plan.batch_size)]
        command += ["--wait-ms", str(plan.batch_wait_ms)]
        bundles = dict.fromkeys(method.bundle for method in plan.methods if not method.local)
        for bundle in bundles:  # a bundle serves all its levels
            command += ["--model", str(bundle)]
        super().__init__("server", [*command, "--listen", "127.0.0.1:0"], logs)
        self.address = self._announced()
        self._command = [*command, "--listen", self.address]
        #: What it was started again for.
        self.restarts: list[str] = []

    def keep_alive(self) -> None:
        """Start it again, at its address, if it has ended.

        Raises:
            EngineError: it has ended too often.
        """
        code = self.poll()
        if code is None:
            return
        if len(self.restarts) == _RESTARTS:
            raise self.failure(code)
        self.restarts.append(f"the server ended with exit code {code} and was started again")
        super().wait(0)
        self._child = self._start()
        self._announced()

    def _announced(self) -> str:
        deadline = time.monotonic() + _START_S
        try:
            while not self._announcement.exists():
                code = self.poll()
                if code is not None:
                    raise self.failure(code)
                if time.monotonic() > deadline:
                    raise EngineError(f"the server does not serve after {_START_S:g} s; see {self.log}")
                time.sleep(_POLL_S / 4)
            return str(json.loads(self._announcement.read_text())["address"])
        except EngineError:
            self.terminate()
            self.wait(_STOP_S)
            raise
        finally:
            self._announcement.unlink(missing_ok=True)


class _Device(_Process):
    """A device. It waits before each method until it is let go."""

    def __init__(self, name: str, command: list[str], logs: Path) -> None:
        super().__init__(name, command, logs, stdout=subprocess.PIPE)
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)
        self._said = b""

    def waits(self) -> bool:
        """Whether it is ready for its next method."""
        assert self._child.stdout is not None
        self._said += self._child.stdout.read() or b""
        return self._said.startswith(READY.encode()) and self._said.endswith(b"\n")

    def let_go(self) -> None:
        """Let it begin its next method."""
        assert self._child.stdin is not None
        self._said = b""
        with suppress(BrokenPipeError):  # its end is noticed by its exit code
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()


def _device_command(plan: RunPlan, number: int, device: DevicePlan, server: _Server | None) -> list[str]:
    command = [sys.executable, "-m", "edge.device", "--leashed", "--run", plan.run, "--client", device.client]
    command += ["--samples", str(plan.samples), "--shard", f"{number}/{len(plan.devices)}"]
    command += ["--out", str(plan.events / f"{device.client}.jsonl")]
    command += ["--in-flight", str(device.in_flight), "--deadline", str(device.deadline_s)]
    if server is not None:
        command += ["--server", server.address]
    if device.fallback is not None:
        command += ["--fallback", str(device.fallback)]
    if device.erasure:
        command += ["--erase", str(device.erasure), "--erase-seed", str(device.erasure_seed)]
    for method in plan.methods:
        command += ["--model", str(method.bundle), "--as", method.name]
        if method.level is not None:
            command += ["--level", str(method.level)]
    return command


def _wait(
    plan: RunPlan, server: _Server | None, devices: list[_Device], report: Callable[[int], None]
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
            server.keep_alive()
        waiting = [device.waits() for device in running]
        if all(waiting):
            for device in running:
                device.let_go()
        report(sum(counter.count() for counter in counters))


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
