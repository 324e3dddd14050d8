"""Standard input as a leash: the parent that holds its other end gives the pace, and is not outlived."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable

__all__ = ["READY", "Leash"]

#: What a leashed device prints before each model, with the model's name, on a line of its own.
READY = "ready "


class Leash:
    """Reads standard input in the background; its end is this process's SIGTERM.

    A pipe closes with the process that holds it, however that ends, SIGKILL included.

    Args:
        on_line: called for each line, in a thread of its own, in place of letting :meth:`wait` go.
    """

    def __init__(self, on_line: Callable[[], object] | None = None) -> None:
        self._on_line = on_line
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="leash", daemon=True).start()

    def wait(self, name: str) -> None:
        """Say that ``name`` is ready to run, and block until the parent sends a line."""
        print(f"{READY}{name}", flush=True)
        self._lines.get()

    def _read(self) -> None:
        for line in sys.stdin:
            if self._on_line is None:
                self._lines.put(line)
            else:
                self._on_line()
        os.kill(os.getpid(), signal.SIGTERM)
