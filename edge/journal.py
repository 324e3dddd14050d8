"""The file into which a device writes its events, a line of JSON each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from edge.meter import Event

__all__ = ["Journal", "JournalError"]


class JournalError(Exception):
    """Events cannot be written down any more: the disk is full, or gone."""


class Journal:
    """A new file of events. What one call appends is written at once, so that it is there as a whole.

    Raises:
        FileExistsError: there is such a file; its events would be there twice.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def append(self, events: Iterable[Event]) -> None:
        """Write these events and hand them to the system.

        Raises:
            JournalError: they could not all be written; none of them is in the file.
        """
        data = "".join(f"{event.to_json()}\n" for event in events).encode()
        before = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            os.ftruncate(self._descriptor, before)
            raise JournalError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def discard_if_empty(self) -> None:
        """Leave nothing behind where nothing was written."""
        if not os.fstat(self._descriptor).st_size:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the file."""
        os.close(self._descriptor)
