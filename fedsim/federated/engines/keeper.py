"""Runs a program, and lets nothing that comes of it outlive whoever started the keeper.

::

    python -m fedsim.federated.engines.keeper COMMAND ARGUMENTS

Flower's programs start others, some of them in sessions of their own, and leave them behind when they are
killed. The keeper adopts them all (Linux: it is their subreaper, so that an orphan becomes its child), and
ends them when the program ends, when it is asked to by a SIGTERM, or when the pipe that is its standard
input is closed, which happens with the end of whoever holds it, SIGKILL included.

It exits with the program's exit code, or 128 and the number of the signal that ended it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from edge.leash import Leash

__all__ = ["keep"]

_GRACE_S = 5.0  # until what was asked to end is killed
_POLL_S = 0.05
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)


class _Ended(BaseException):
    """Asked to end."""


def keep(command: Sequence[str]) -> int:
    """Run a program to its end, or to the end of the leash.

    Returns:
        its exit code, or 128 and the number of the signal that ended it.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    code, program = 128 + signal.SIGTERM, None
    try:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_the_keeper,  # noqa: PLW1509  there is no other thread yet
        )
        Leash()
        code = _waited_for(program.pid)
    except OSError as error:
        print(f"{command[0]}: {error.strerror or error}", file=sys.stderr, flush=True)
        code = 127
    except _Ended:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if program is not None:
            _end_all(program.pid)
    return code


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _Ended


def _waited_for(pid: int) -> int:
    """The exit code of a child; other children, orphans that were adopted, are buried on the way."""
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_all(program: int) -> None:
    """Ask all that is left to end, and kill what does not."""
    for number, patience in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        end = time.monotonic() + patience
        asked: set[int] = set()
        while (left := _descendants()) and time.monotonic() < end:
            for pid in left - asked:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            asked |= left
            _bury()
            time.sleep(_POLL_S)
        if not sys.platform.startswith("linux"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(program, number)
                time.sleep(_POLL_S)
        _bury()


def _bury() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants() -> set[int]:
    """Processes that come of this one and have not ended (Linux; elsewhere none is known)."""
    parents: dict[int, int] = {}
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            with suppress(OSError, ValueError, IndexError):
                if name.isdecimal():
                    with open(f"/proc/{name}/stat") as file:
                        state, parent = file.read().rpartition(")")[2].split()[:2]
                    if state != "Z":
                        parents[int(name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _die_with_the_keeper() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
