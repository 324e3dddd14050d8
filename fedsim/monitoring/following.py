"""Event files that are still being written, read as they grow."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edge.meter import Event

__all__ = ["Following"]

_log = logging.getLogger(__name__)


@dataclass
class _File:
    inode: int
    offset: int = 0


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
        there = {path: path.stat() for path in sorted(self._folder.glob("*.jsonl"))}
        anew = any(
            path not in there or there[path].st_ino != file.inode or there[path].st_size < file.offset
            for path, file in self._files.items()
        )
        if anew:
            self._files.clear()
        events: list[Event] = []
        for path, status in there.items():
            file = self._files.setdefault(path, _File(status.st_ino))
            if status.st_size > file.offset:
                events += self._grown(path, file)
        return anew, events

    @staticmethod
    def _grown(path: Path, file: _File) -> list[Event]:
        with path.open("rb") as opened:
            opened.seek(file.offset)
            new = opened.read()
        whole = new[: new.rfind(b"\n") + 1]
        file.offset += len(whole)
        events = []
        for line in whole.splitlines():
            try:
                events.append(Event.from_json(line.decode()))
            except (ValueError, TypeError) as error:
                _log.warning("%s: a line that is no event is left out: %s", path, error)
        return events
