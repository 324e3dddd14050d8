"""What a long run shows while it works: one bar a task, with the figures that matter and the time left.

Where the output is no terminal, a line now and then says how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Display", "Task"]


class Task:
    """One bar. Made by :meth:`Display.task`."""

    def __init__(
        self, progress: Progress, description: str, total: int, moved: Callable[[str], None]
    ) -> None:
        self._progress = progress
        self._id = progress.add_task(description, total=total, figures="")
        self._moved = moved

    def advance(self, figures: Mapping[str, float]) -> None:
        """Go on by one step and show the figures, such as ``{"loss": 0.3, "bits": 41}``."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._progress.update(self._id, advance=1, figures=shown)
        self._tell()

    def reach(self, completed: int) -> None:
        """Go on to ``completed`` steps in all."""
        self._progress.update(self._id, completed=completed)
        self._tell()

    def _tell(self) -> None:
        task = self._progress.tasks[self._progress.task_ids.index(self._id)]
        self._moved(
            f"{task.description} {task.completed:.0f}/{task.total:.0f}  {task.fields['figures']}".rstrip()
        )

    def remove(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._id)


class Display:
    """Progress bars on a console, or lines where it is no terminal; silent where ``quiet`` is set.

    Args:
        console: standard output by default.
        quiet: show nothing.
        every_s: seconds from one line to the next, where there are no bars.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False, every_s: float = 30.0) -> None:
        self.console = console or Console()
        self._plain = not quiet and not self.console.is_terminal
        self._every_s = every_s
        self._told = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )

    @contextmanager
    def live(self) -> Iterator[Display]:
        """Show the bars while inside."""
        with self._progress:
            yield self

    @contextmanager
    def task(self, description: str, total: int, *, keep: bool = True, lines: bool = True) -> Iterator[Task]:
        """A bar of ``total`` steps, filled while inside.

        Args:
            description: stands before it.
            total: steps.
            keep: leave it there behind its end.
            lines: say how far it is in lines, where there are no bars.
        """
        task = Task(self._progress, description, total, self._moved if lines else lambda line: None)
        try:
            yield task
            task.reach(total)
        finally:
            if not keep:
                task.remove()

    def _moved(self, line: str) -> None:
        now = time.monotonic()
        if self._plain and now - self._told >= self._every_s:
            self._told = now
            self.console.print(line, markup=False)
