"""The events of a method's rounds, in a file beside what is kept of its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.meter import Event
from fedsim.errors import OutputError
from fedsim.measure.files import replacing
from fedsim.measure.ledger import read_events

__all__ = ["Journal"]


class Journal:
    """Keeps events, round by round.

    Args:
        folder: of the file; is made.
        rounds: that are over; what is there of later ones is of a round that did not end, and is removed.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, rounds: int = 0) -> None:
        self._folder = folder
        self._path = folder / "events.jsonl"
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            before = read_events(folder) if rounds and self._path.exists() else []
            over = [event for event in before if (event.round or 0) <= rounds]
            with replacing(self._path) as temporary:
                temporary.write_text("".join(f"{event.to_json()}\n" for event in over))

    def append(self, events: Iterable[Event]) -> None:
        """Add the events of a round.

        Raises:
            OutputError: the file cannot be written.
        """
        with self._writing(), self._path.open("a") as file:
            file.writelines(f"{event.to_json()}\n" for event in events)

    def events(self) -> list[Event]:
        """All of them."""
        return read_events(self._folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be written: {error.strerror or error}") from error
