"""What a worker shows of its progress: messages to the one who started it, in the place of bars."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console

from fedsim.progress import Display, Task

__all__ = ["Bars", "RelayDisplay"]

Send = Callable[[dict[str, Any]], None]


class _RelayTask(Task):
    """A bar whose movements are sent."""

    def __init__(self, send: Send, number: int) -> None:
        self._send = send
        self._number = number

    def advance(self, figures: Mapping[str, float]) -> None:
        self._send({"event": "advance", "task": self._number, "figures": dict(figures)})

    def reach(self, completed: int) -> None:
        self._send({"event": "reach", "task": self._number, "completed": completed})


class RelayDisplay(Display):
    """A display whose bars are at the other end of ``send``; :class:`Bars` shows them there."""

    def __init__(self, send: Send) -> None:
        super().__init__(Console(file=io.StringIO()), quiet=True)
        self._send = send
        self._numbers = itertools.count()

    @contextmanager
    def task(self, description: str, total: int, *, keep: bool = True, lines: bool = True) -> Iterator[Task]:
        """A bar of ``total`` steps at the other end, while inside."""
        number = next(self._numbers)
        self._send({"event": "begin", "task": number, "description": description, "total": total})
        try:
            yield _RelayTask(self._send, number)
        finally:
            self._send({"event": "end", "task": number})


class Bars:
    """The bars of several workers on one display."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._open: dict[str, dict[int, tuple[ExitStack, Task]]] = {}

    def show(self, job: str, message: Mapping[str, Any], suffix: str = "") -> None:
        """Move a bar of a job as a message says; one that is of no bar changes nothing.

        Args:
            job: whose bars they are.
            message: of a :class:`RelayDisplay`.
            suffix: put behind the description of a new bar.
        """
        bars = self._open.setdefault(job, {})
        match message:
            case {"event": "begin", "task": number, "description": description, "total": total}:
                stack = ExitStack()
                bar = stack.enter_context(self._display.task(f"{description}{suffix}", total, keep=False))
                bars[number] = stack, bar
            case {"event": "advance", "task": number, "figures": figures}:
                bars[number][1].advance(figures)
            case {"event": "reach", "task": number, "completed": completed}:
                bars[number][1].reach(completed)
            case {"event": "end", "task": number}:
                bars.pop(number)[0].close()

    def clear(self, job: str) -> None:
        """Take all bars of a job away."""
        for stack, _ in self._open.pop(job, {}).values():
            stack.close()
