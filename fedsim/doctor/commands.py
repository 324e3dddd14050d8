"""Commands of others, run for at most a few seconds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["SYSTEM_FOLDERS", "Output", "installed", "output"]

#: Where tc and ip lie; ordinary users do not always have them in PATH.
SYSTEM_FOLDERS = ["/usr/sbin", "/sbin"]


@dataclass(frozen=True)
class Output:
    """What a command said.

    Args:
        code: its exit code; None where it took too long and was killed.
        text: its standard output.
        error: its standard error; what kept it from being run.
    """

    code: int | None
    text: str
    error: str

    @property
    def said(self) -> str:
        """The last line of what it complained of, for a message."""
        lines = [line.strip() for line in (self.error or self.text).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


def installed(name: str) -> bool:
    """Whether a command is found in PATH, or in SYSTEM_FOLDERS."""
    return shutil.which(name, path=_path()) is not None


def output(command: Sequence[str], timeout_s: float) -> Output:
    """Run a command and all that it starts for at most ``timeout_s``, without a terminal to ask on."""
    environment = {**os.environ, "PATH": _path(), "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return Output(127, "", str(error))
    with process:
        try:
            text, complaint = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Output(None, "", f"{command[0]} did not answer within {timeout_s:g} s")
        except BaseException:
            _kill(process)
            raise
    return Output(process.returncode, text, complaint)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=1)


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
