"""Event files that are still being written, read as they grow."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.meter import Event

__all__ = ["Following"]

_log = logging.getLogger(__name__)

_BEGINNING = 256  # bytes; the first event is in them, and when it began


@dataclass
class _File:
    offset: int = 0
    beginning: bytes = (
        b""  # by which it is known: what is made in its place may be called like it in every way
    )

    def is_there(self, path: Path) -> bool:
        """Whether it is still the same, and no shorter."""
        with path.open("rb") as file:
            return file.read(len(self.beginning)) == self.beginning and path.stat().st_size >= self.offset


class Following:
    """The events of a folder, each once. The folder need not be there yet.

    Args:
        folder: of the ``*.jsonl`` files, each of which only grows.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _File] = {}

    def read(self) -> tuple[bool, list[Event]]:
        """What is new since the last time.

        A line that is no event is left out, and told in the log; one without its end is left for later.

        Returns:
            whether these are of another run, since a file that was there is gone or has begun anew; and the
            events.
        """
        try:
            anew = not all(file.is_there(path) for path, file in self._files.items())
        except FileNotFoundError:
            anew = True
        if anew:
            self._files.clear()
        events: list[Event] = []
        for path in sorted(self._folder.glob("*.jsonl")):
            with suppress(FileNotFoundError):  # an earlier run is being removed
                events += self._grown(path, self._files.setdefault(path, _File()))
        return anew, events

    @staticmethod
    def _grown(path: Path, file: _File) -> list[Event]:
        with path.open("rb") as opened:
            opened.seek(file.offset)
            new = opened.read()
        whole = new[: new.rfind(b"\n") + 1]
        file.beginning = file.beginning or whole[:_BEGINNING]
        file.offset += len(whole)
        events = []
        for line in whole.splitlines():
            try:
                events.append(Event.from_json(line.decode()))
            except (ValueError, TypeError) as error:
                _log.warning("%s: a line that is no event is left out: %s", path, error)
        return events
