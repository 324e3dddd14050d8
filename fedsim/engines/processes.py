"""The engine ``processes``: one tail server process and a process for each device, on loopback.

They are the programs ``edge.server`` and ``edge.device``, just as they run on two machines. All
devices begin each method together, so that its latency is measured under its own load. A server that
dies is started again at the same address, and the devices go on; nothing outlives the engine.

::

    device --.
    device --+-- edge.link: a cell --.
    device --.                       +-- edge.server
    device --+-- edge.link: a cell --'
    device --------------------------'

Where a device has a cell it connects to a relay that is the cell's link, a process too. What the relay has
carried stands in ``links/<cell>.json`` at the end: bytes and seconds of both directions, and connections.
The traces of a link begin anew with each method, so that every method meets the same part of them.

What the meters of this machine say of each method stands in the ledger, in stages of their own: it is the
energy of devices, relays and server together, and of all else that runs here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from edge.energy.discovery import SYSFS
from edge.leash import READY
from fedsim.engines.children import STOP_S, Announced, Child
from fedsim.engines.machine import Machine
from fedsim.engines.plan import RunPlan
from fedsim.engines.programs import (
    SOME_SAMPLES_FAILED,
    FinishedSamples,
    device_arguments,
    link_arguments,
    server_arguments,
)

__all__ = ["run"]

_POLL_S = 0.1
_RESTARTS = 2  # of a server that dies


def run(plan: RunPlan, report: Callable[[int], None], sysfs: Sequence[Path] = SYSFS) -> list[str]:
    """Carry the plan out; return when every device has finished.

    Args:
        plan: what to run.
        report: called with the number of samples finished so far, a few times a second.
        sysfs: where the energy meters of this machine are looked for.

    Returns:
        what went wrong on the way and was mended, in words.

    Raises:
        EngineError: a device or a link ended that should not have, or the server does so again and again;
            repeats what it said. Nothing is left running.
    """
    plan.events.mkdir(parents=True)
    logs = plan.folder / "logs"
    logs.mkdir()
    machine = Machine(plan.run, plan.events / "machine.jsonl", sysfs)
    started: list[Child] = []
    try:
        server = None
        links: dict[str, _Link] = {}
        if any(not method.local for method in plan.methods):
            server = _Server(plan, logs)
            started.append(server)
            for cell in dict.fromkeys(device.cell for device in plan.devices if device.cell is not None):
                links[cell] = _Link(plan, cell, server, logs)
                started.append(links[cell])
        devices = []
        for number, device in enumerate(plan.devices):
            reached = server if device.cell is None or server is None else links[device.cell]
            address = None if reached is None else reached.address
            command = [sys.executable, "-m", "edge.device", "--leashed"]
            command += device_arguments(plan, number, device, address)
            devices.append(_Device(device.client, command, logs))
            started.append(devices[-1])
        _wait(plan, server, list(links.values()), devices, machine, report)
        for link in links.values():
            link.finish()
        return server.restarts if server is not None else []
    finally:
        for child in started:
            child.terminate()
        for child in started:
            child.wait(STOP_S)
        machine.close()


class _Server(Announced):
    """The tail server; serves when constructed."""

    def __init__(self, plan: RunPlan, logs: Path) -> None:
        command = [sys.executable, "-m", "edge.server", *server_arguments(plan)]
        super().__init__("server", command, logs, plan.folder / "server.json")
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
        self.start_again("--listen", self.address)


class _Link(Announced):
    """The link of a cell: a relay to the server, which passes on what comes once it is constructed."""

    def __init__(self, plan: RunPlan, cell: str, server: _Server, logs: Path) -> None:
        name = f"link-{cell}"
        spec, self._counters = logs / f"{name}.json", plan.links / f"{cell}.json"
        link = plan.cells[cell]
        self._varies = link.up.trace is not None or link.down.trace is not None
        plan.links.mkdir(exist_ok=True)
        spec.write_text(link.to_json() + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "edge.link"]
        command += link_arguments(plan, cell, server.address, spec, self._counters)
        super().__init__(name, command, logs, plan.folder / f"{name}.json")

    def check(self) -> None:
        """See that it has not ended.

        Raises:
            EngineError: it has. Its devices would only wait for their deadlines.
        """
        code = self.poll()
        if code is not None:
            raise self.failure(code)

    def begin_anew(self) -> None:
        """Let its traces begin anew, where it has any."""
        if self._varies:
            self.send(signal.SIGUSR2)

    def finish(self) -> None:
        """Let it end, and write down what it has carried.

        Raises:
            EngineError: it did not.
        """
        self.terminate()
        code = self.wait(STOP_S)
        if code or not self._counters.exists():
            raise self.failure(code)


class _Device(Child):
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


def _wait(
    plan: RunPlan,
    server: _Server | None,
    links: list[_Link],
    devices: list[_Device],
    machine: Machine,
    report: Callable[[int], None],
) -> None:
    counters = [FinishedSamples(plan.events / f"{device.client}.jsonl") for device in plan.devices]
    running = list(devices)
    begun = 0
    while running:
        time.sleep(_POLL_S)
        for device in list(running):
            code = device.poll()
            if code is None:
                continue
            if code not in (0, SOME_SAMPLES_FAILED):
                raise device.failure(code)
            running.remove(device)
        if server is not None and running:
            server.keep_alive()
        for link in links:
            link.check()
        ready = all(device.waits() for device in running)
        finished = sum(counter.count() for counter in counters)
        if ready or finished >= begun * plan.sample_count:
            machine.end()
        report(finished)
        if running and ready:
            for link in links:
                link.begin_anew()
            machine.begin(plan.methods[begun])
            begun += 1
            for device in running:
                device.let_go()
