"""A federated run as it is kept after every round, so that it goes on from there after a kill.

::

    FOLDER/run.json                 which round, and the files of that round
    FOLDER/state-12                 what the server knew
    FOLDER/kept-4f2a...             what a client kept, or several that keep the same

``run.json`` is replaced last and at once; files that it does not name are of a round that did not end, or
of one before, and are removed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from fedsim.errors import OutputError
from fedsim.federated.evaluation import Result
from fedsim.federated.method import State
from fedsim.federated.strategy import Rejection, RoundRecord

__all__ = ["FederationCheckpoint", "Kept"]

_RUN = "run.json"


@dataclass(frozen=True)
class Kept:
    """A run as it was after its last finished round.

    Args:
        rounds: that are over.
        state: of the server.
        records: of the rounds.
        informed: partitions that have been set up.
        clients: what each client kept, by partition and name.
    """

    rounds: int
    state: State
    records: list[RoundRecord]
    informed: frozenset[int]
    clients: dict[int, dict[str, bytes]]


class FederationCheckpoint:
    """Keeps a run in a folder of its own.

    Args:
        folder: is made with the first round.
        identity: of the run: what of another identity was kept there is of no use, and is removed.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        self._clients: dict[int, str] = {}  # file of each
        self._digests: dict[int, int] = {}

    def load(self) -> Kept | None:
        """What was kept; None where nothing was, or of another run, or where it is damaged."""
        try:
            run = json.loads((self._folder / _RUN).read_text())
            if run["identity"] != self._identity:
                return None
            state = State.from_bytes((self._folder / run["state"]).read_bytes())
            files = {int(partition): name for partition, name in run["clients"].items()}
            clients = {p: _unpacked((self._folder / name).read_bytes()) for p, name in files.items()}
            records = [_record(one) for one in run["records"]]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError):
            return None
        self._clients = files
        self._digests = {partition: _digest(kept) for partition, kept in clients.items()}
        return Kept(run["rounds"], state, records, frozenset(run["informed"]), clients)

    def save(
        self,
        rounds: int,
        state: State,
        records: Sequence[RoundRecord],
        informed: frozenset[int],
        clients: Mapping[int, Mapping[str, bytes]],
    ) -> None:
        """Keep the run as it is after a round. Clients that kept nothing new cost nothing.

        Raises:
            OutputError: it cannot be written; what was kept before still is.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for partition, kept in clients.items():
                if self._digests.get(partition) != (digest := _digest(kept)):
                    data = _packed(kept)
                    name = f"kept-{hashlib.sha256(data).hexdigest()[:32]}"
                    if name not in self._clients.values():
                        (self._folder / name).write_bytes(data)
                    self._clients[partition], self._digests[partition] = name, digest
            name = f"state-{rounds}"
            (self._folder / name).write_bytes(state.to_bytes())
            run = {
                "identity": self._identity,
                "rounds": rounds,
                "state": name,
                "clients": self._clients,
                "informed": sorted(informed),
                "records": [asdict(record) for record in records],
            }
            partial = self._folder / f".{_RUN}"
            partial.write_text(json.dumps(run))
            os.replace(partial, self._folder / _RUN)
        except OSError as error:
            raise OutputError(f"{self._folder} cannot be written: {error.strerror or error}") from error
        named = {_RUN, name, *self._clients.values()}
        for path in self._folder.iterdir():
            if path.name not in named:
                with suppress(OSError):
                    path.unlink()

    def remove(self) -> None:
        """Take the folder away: the run is over."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                path.unlink()
            self._folder.rmdir()


def _packed(kept: Mapping[str, bytes]) -> bytes:
    return save_arrays({name: np.frombuffer(value, np.uint8) for name, value in kept.items()})


def _unpacked(data: bytes) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in load_arrays(data).items()}


def _digest(kept: Mapping[str, bytes]) -> int:
    return hash(tuple(sorted((name, hash(value)) for name, value in kept.items())))


def _record(values: Mapping[str, Any]) -> RoundRecord:
    """A record as :func:`json.loads` gives it."""
    return RoundRecord(
        values["number"],
        tuple(values["cohort"]),
        tuple(values["merged"]),
        tuple(values["lost"]),
        tuple(Rejection(**one) for one in values["rejected"]),
        {int(p): [Result(**one) for one in results] for p, results in values["results"].items()},
        {int(p): seconds for p, seconds in values["late"].items()},
        values["void"],
    )
