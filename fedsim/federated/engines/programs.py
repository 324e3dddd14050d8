"""Flower's programs as children of this process: started, and stopped with all that came of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import fedsim
from fedsim.errors import FederationError

__all__ = ["Program", "alive", "environment", "tail"]

_STOP_S = 20.0  # until a keeper that was asked to stop is killed
_TAIL = 15  # lines of a log that an error repeats
_KEEPER = "fedsim.federated.engines.keeper"

#: Nothing is installed, asked for or reported over the network; work is looked for twice a second.
_SETTINGS = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def environment(home: Path) -> dict[str, str]:
    """What Flower's programs find in their environment.

    Args:
        home: folder that is theirs alone, in place of ``~/.flwr``.
    """
    programs = sysconfig.get_path("scripts")  # of this Python; Flower's programs start each other by name
    found = {**os.environ, **_SETTINGS, "FLWR_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    found.setdefault("OMP_NUM_THREADS", "1")  # clients work side by side
    found["PATH"] = os.pathsep.join([programs, *filter(None, [os.environ.get("PATH")])])
    if "RAY_ADDRESS" not in found:  # a Ray of our own
        found["RAY_TMPDIR"] = str(home)
    root = Path(fedsim.__file__).parents[1]
    if root not in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:  # not installed
        found["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found


class Program:
    """A program under a :mod:`keeper <fedsim.federated.engines.keeper>`; its messages go to a log file.

    Args:
        name: for people; of the log file, too.
        command: its name and arguments.
        env: its environment.
        logs: folder of log files.
    """

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", _KEEPER, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
            )

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        return self._keeper.poll()

    def ended(self, code: int) -> FederationError:
        """Its end as an error, with the last lines that it wrote."""
        return FederationError(f"{self.name} ended with exit code {code}:\n{tail(self.log)}")

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.poll() is None:
            self._keeper.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has, with all that came of it."""
        try:
            self._keeper.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        assert self._keeper.stdin is not None
        with suppress(BrokenPipeError):
            self._keeper.stdin.close()


def tail(log: Path) -> str:
    """The last lines of a log file, indented."""
    lines = log.read_text(errors="replace").strip().splitlines()[-_TAIL:] if log.exists() else []
    return "\n".join(f"  {line}" for line in lines)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and has not been buried does not."""
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a machine without /proc
        return True
