"""What comes of a federated run, and the folder in which a server leaves it for whoever started it.

::

    FOLDER/server.json   the server's process
    FOLDER/rounds/       the run after its last finished round (:class:`FederationCheckpoint`)
    FOLDER/events/       what the messages cost, and how long the server's work took
    FOLDER/failed.json   why the server gave up, in its own words
    FOLDER/done.json     written last, and only where all rounds are over

Flower's own tools say of a server that crashed that all went well, so this folder alone tells.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge.meter import Event
from fedsim.errors import FederationError, FedsimError, OutputError
from fedsim.federated.checkpoint import FederationCheckpoint
from fedsim.federated.journal import Journal
from fedsim.federated.method import State
from fedsim.federated.strategy import RoundRecord
from fedsim.measure.ledger import read_events

__all__ = ["Outcome", "ResultFolder"]

_SERVER, _DONE, _FAILED, _ROUNDS, _EVENTS = "server.json", "done.json", "failed.json", "rounds", "events"


@dataclass(frozen=True)
class Outcome:
    """A federated run that is over.

    Args:
        state: of the server.
        records: of all rounds.
        troubles: what went wrong on the way and did not end the run, in words.
        events: what the messages cost, and how long work took, as far as it was measured.
    """

    state: State
    records: Sequence[RoundRecord]
    troubles: Sequence[str] = field(default_factory=tuple)
    events: Sequence[Event] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        refused = [one for record in self.records for one in record.rejected]
        if refused and not any(record.merged for record in self.records):
            first = refused[0]
            raise FederationError(
                f"no reply of any client was of use, in no round; client {first.partition}, "
                f"round {first.round}: {first.reason}"
            )


class ResultFolder:
    """Where a server in a process of its own leaves what came of the run.

    Args:
        path: of the folder; is made by the server.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checkpoint = FederationCheckpoint(path / _ROUNDS, "")
        self._records: list[RoundRecord] = []
        self._journal: Journal | None = None

    # --- the server's side ----------------------------------------------------------------------

    def round_ended(self, state: State, record: RoundRecord, events: Iterable[Event] = ()) -> None:
        """Keep the run as it is after a round, and the events of the round."""
        if self._journal is None:
            self._journal = Journal(self._path / _EVENTS)
        self._journal.append(events)
        self._records.append(record)
        self._checkpoint.save(record.number, state, self._records, frozenset(), {})

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever ends the work inside, an error or its end, is told in the folder."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._write(_SERVER, {"pid": os.getpid()})
            yield
        except BaseException as error:
            expected = isinstance(error, FedsimError)
            said = str(error) if expected else f"the ServerApp failed: {type(error).__name__}: {error}"
            self._write(_FAILED, {"message": said, "expected": expected})
            raise
        self._write(_DONE, {"rounds": len(self._records)})

    def _write(self, name: str, values: dict[str, object]) -> None:
        partial = self._path / f".{name}"
        try:
            partial.write_text(json.dumps(values))
            os.replace(partial, self._path / name)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error

    # --- the side of whoever started it ---------------------------------------------------------

    def rounds(self) -> int:
        """How many are over."""
        try:
            return int(json.loads((self._path / _ROUNDS / "run.json").read_text())["rounds"])
        except FileNotFoundError:
            return 0

    def failure(self) -> tuple[str, bool] | None:
        """Why the server gave up, and whether that is one of fedsim's own errors; None where it did not."""
        try:
            failed = json.loads((self._path / _FAILED).read_text())
        except FileNotFoundError:
            return None
        return str(failed["message"]), bool(failed["expected"])

    def server(self) -> int | None:
        """The server's process; None where it has not begun."""
        try:
            return int(json.loads((self._path / _SERVER).read_text())["pid"])
        except FileNotFoundError:
            return None

    def done(self) -> bool:
        """Whether all rounds are over, and all is written."""
        return (self._path / _DONE).exists()

    def outcome(self, troubles: Sequence[str] = ()) -> Outcome:
        """What came of the run.

        Raises:
            FederationError: nothing did.
        """
        kept = self._checkpoint.load()
        if kept is None or not self.done():
            raise FederationError(f"{self._path}: there is no result of a run")
        events = read_events(self._path / _EVENTS)
        return Outcome(kept.state, kept.records, tuple(troubles), events)
