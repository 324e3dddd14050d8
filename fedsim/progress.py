"""What a long run shows while it works: one bar a task, with the figures that matter and the time left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._id = progress.add_task(description, total=total, figures="")

    def advance(self, figures: Mapping[str, float]) -> None:
        """Go on by one step and show the figures, such as ``{"loss": 0.3, "bits": 41}``."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._progress.update(self._id, advance=1, figures=shown)

    def reach(self, completed: int) -> None:
        """Go on to ``completed`` steps in all."""
        self._progress.update(self._id, completed=completed)

    def remove(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._id)


class Display:
    """Progress bars on a console; silent where ``quiet`` is set or the console is no terminal."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console()
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
    def task(self, description: str, total: int, *, keep: bool = True) -> Iterator[Task]:
        """A bar of ``total`` steps, filled while inside; taken away behind it unless it is to be kept."""
        task = Task(self._progress, description, total)
        try:
            yield task
            task.reach(total)
        finally:
            if not keep:
                task.remove()
