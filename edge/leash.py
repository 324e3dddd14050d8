"""A pipe as a leash: the program that holds its other end gives the pace, and is not outlived.

It is standard input of a child. Where others start the programs, in containers, it is a named pipe.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

from edge.arguments import Parser, existing_folder

__all__ = ["READY", "Leash", "add_leash"]

#: What a leashed device prints before each model, with the model's name, on a line of its own.
READY = "ready "


def add_leash(parser: Parser, what: str) -> None:
    """Give a program the option ``--leashed``, whose value is what :class:`Leash` takes; None without it.

    Args:
        parser: of the program.
        what: of standard input and output the program makes, for its help.
    """
    parser.add_argument(
        "--leashed",
        nargs="?",
        const=True,
        type=existing_folder,
        metavar="DIR",
        help=f"{what}. With DIR these are the named pipes in and, where there is one, out in that folder",
    )


class Leash:
    """Reads a pipe in the background; its end is this process's SIGTERM.

    A pipe closes with the process that holds it, however that ends, SIGKILL included.

    Args:
        by: True for standard input and output; or a folder with named pipes ``in`` and ``out``, or only
            ``in``, whose other ends are held already.
        on_line: called for each line, in a thread of its own, in place of letting :meth:`wait` go.
    """

    def __init__(self, by: Path | Literal[True] = True, on_line: Callable[[], object] | None = None) -> None:
        self._on_line = on_line
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._output: TextIO | None = sys.stdout if by is True else _opened(by / "out", os.O_WRONLY)
        source = sys.stdin if by is True else _opened(by / "in", os.O_RDONLY)
        threading.Thread(target=self._read, args=(source,), name="leash", daemon=True).start()

    def wait(self, name: str) -> None:
        """Say that ``name`` is ready to run, and block until the parent sends a line."""
        print(f"{READY}{name}", file=self._output, flush=True)
        self._lines.get()

    def _read(self, source: TextIO | None) -> None:
        for line in source or ():
            if self._on_line is None:
                self._lines.put(line)
            else:
                self._on_line()
        os.kill(os.getpid(), signal.SIGTERM)


def _opened(pipe: Path, flags: int) -> TextIO | None:
    """A named pipe; None where there is none, or nobody holds its other end."""
    try:
        found = os.open(pipe, flags | os.O_NONBLOCK)  # else it waits for the other end, for ever
    except OSError:
        return None
    os.set_blocking(found, True)
    return os.fdopen(found, "r" if flags == os.O_RDONLY else "w")
