"""Processes that an engine starts, watches and ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from fedsim.errors import EngineError

__all__ = ["STOP_S", "Announced", "Child"]

#: Seconds until a process that was asked to stop is killed.
STOP_S = 20.0
_START_S = 60.0  # until a process is at its address
_POLL_S = 0.025


class Child:
    """A process on a leash: it ends when this process does. Its messages go to a log file."""

    def __init__(self, name: str, command: list[str], logs: Path, stdout: int | None = None) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command = command
        self._stdout = stdout
        self._child = self._start()

    def _start(self, *more: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [*self._command, *more],
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
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            self._child.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end, and kill it where it does not come; the exit code."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return self._child.returncode


class Announced(Child):
    """A process that listens on an address of its own choice and says so in a file; it does once constructed.

    Args:
        name: for errors, and of its log.
        command: its command line, without ``--leashed`` and ``--announce``.
        logs: folder of its log.
        announcement: the file, which is taken away when it has been read.
    """

    def __init__(self, name: str, command: list[str], logs: Path, announcement: Path) -> None:
        self._announcement = announcement
        super().__init__(name, [*command, "--leashed", "--announce", str(announcement)], logs)
        self.address = self._announced()

    def start_again(self, *more: str) -> None:
        """Start it again, behind its end, with ``more`` on its command line."""
        self.wait(0)
        self._child = self._start(*more)
        self._announced()

    def _announced(self) -> str:
        deadline = time.monotonic() + _START_S
        try:
            while not self._announcement.exists():
                code = self.poll()
                if code is not None:
                    raise self.failure(code)
                if time.monotonic() > deadline:
                    raise EngineError(f"the {self.name} does not serve after {_START_S:g} s; see {self.log}")
                time.sleep(_POLL_S)
            return str(json.loads(self._announcement.read_text())["address"])
        except BaseException:
            self.terminate()
            self.wait(STOP_S)
            raise
        finally:
            self._announcement.unlink(missing_ok=True)
