"""The ledger: every event of a run, checked, in one Parquet file.

::

    events/<client>.jsonl       appended by devices, event by event     --+
    events/<anything>.parquet   written by an engine that is no device  --+--> ledger.parquet

Summary, tables and plots derive from that file and from nothing else. It may have many millions of rows:
it is read and written in pieces, and whatever goes over rows goes over columns of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow.dataset import Dataset, dataset

from edge.meter import Event
from fedsim.measure.columns import LEDGER_VERSION, SCHEMA, VERSION_KEY, LedgerError, check_batch, problem_of
from fedsim.measure.files import replacing

__all__ = [
    "LEDGER_VERSION",
    "SCHEMA",
    "Events",
    "LedgerError",
    "as_dataset",
    "check",
    "open_parquet",
    "read_events",
    "read_parquet",
    "read_tables",
    "to_table",
    "write_parquet",
    "write_tables",
]

#: A ledger, or a part of one: events one by one, a table of :data:`SCHEMA`, or a file of it.
Events: TypeAlias = Iterable[Event] | pa.Table | Dataset

_ADDED = {"due_s"}  # columns that older ledgers do not have
_PIECE = 1 << 17  # rows that are read at once
_ROW_GROUP = 1 << 17  # rows; one that holds a single stage need not be read for the others


def read_events(folder: Path) -> list[Event]:
    """All events of the ``*.jsonl`` files of a folder, file by file in the order of their names.

    A last line that was cut off, because its writer was killed, is skipped: it has no line end and
    is no JSON object.

    Raises:
        LedgerError: no such folder, no file in it, or a line that is no event (names file and line).
    """
    return [event for path in _files(folder, ".jsonl") for event in _read_file(path)]


def read_tables(folder: Path) -> Iterator[pa.Table]:
    """All events of a folder as tables of :data:`SCHEMA`, none longer than memory has room for.

    The files, ``*.jsonl`` as :func:`read_events` reads them and ``*.parquet`` with the columns of the
    schema, come in the order of their names.

    Raises:
        LedgerError: no such folder, no file in it, a line that is no event, other columns, or a value
            that its column does not take (names the file, and the line or row).
    """
    for path in _files(folder, ".jsonl", ".parquet"):
        if path.suffix == ".jsonl":
            yield _table(_read_file(path))
        else:
            yield from _read_part(path)


def to_table(events: Iterable[Event]) -> pa.Table:
    """The events as a table of :data:`SCHEMA`, one row each, in their order.

    Raises:
        LedgerError: a value that its column does not take (names event, field and value).
    """
    listed = list(events)
    for number, event in enumerate(listed):
        problem = problem_of(event)
        if problem is not None:
            raise LedgerError(f"event {number}: {problem}")
    return _table(listed)


def as_dataset(events: Events) -> Dataset:
    """Whatever a ledger is kept in, as what is asked for some columns of some rows.

    Raises:
        LedgerError: a value that its column does not take.
    """
    if isinstance(events, Dataset):
        return events
    return dataset(events if isinstance(events, pa.Table) else to_table(events))


def write_parquet(events: Iterable[Event], path: Path) -> pa.Table:
    """Write the ledger, whole or not at all, and return it as a table.

    Raises:
        LedgerError: a value that its column does not take.
    """
    table = to_table(events)
    write_tables([table], path)
    return table


def write_tables(tables: Iterable[pa.Table], path: Path) -> None:
    """Write the ledger, whole or not at all, from tables of :data:`SCHEMA` one behind the other.

    Raises:
        LedgerError: of whoever makes the tables.
    """
    with replacing(path) as temporary, _writer(temporary) as writer:
        waiting: list[pa.Table] = []
        rows = 0
        for table in tables:
            waiting.append(table)
            rows += table.num_rows
            if rows >= _ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting), row_group_size=_ROW_GROUP)
                waiting, rows = [], 0
        if rows:
            writer.write_table(pa.concat_tables(waiting), row_group_size=_ROW_GROUP)


def open_parquet(path: Path) -> Dataset:
    """The ledger written by :func:`write_tables`, not read yet; of an older one, columns it lacks are null.

    Raises:
        LedgerError: no such file, not Parquet, another version or other columns.
    """
    try:
        found = pq.read_schema(path)  # type: ignore[no-untyped-call]
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(f"{path}: cannot be read as a ledger: {error}") from error
    version = (found.metadata or {}).get(VERSION_KEY)
    if version != str(LEDGER_VERSION).encode():
        said = "none" if version is None else version.decode(errors="replace")
        raise LedgerError(f"{path}: ledger version {said}, expected {LEDGER_VERSION}")
    known = pa.schema([one for one in SCHEMA if one.name in found.names or one.name not in _ADDED])
    if not found.equals(known):
        raise _other_columns(path, found)
    return dataset(path, schema=SCHEMA, format="parquet")


def read_parquet(path: Path) -> pa.Table:
    """The ledger of :func:`open_parquet`, all of it at once: some 200 bytes of memory a row.

    Raises:
        LedgerError: likewise.
    """
    try:
        return open_parquet(path).to_table()
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(f"{path}: cannot be read as a ledger: {error}") from error


def check(events: Events, expected: Mapping[str, Collection[int] | NDArray[np.int64]]) -> None:
    """Hold the rule that every sample ends exactly once: one ``total`` event for each method and sample.

    Args:
        events: of one run.
        expected: the sample numbers that each method was to process.

    Raises:
        LedgerError: names, method by method, what is missing, what ended more than once, what was
            never asked for, and what ended without an outcome.
    """
    ends = as_dataset(events).to_table(
        columns=["method", "sample", "outcome"],
        filter=(pc.field("stage") == "total") & pc.field("sample").is_valid(),
    )
    problems = []
    for method in sorted(expected.keys() | set(pc.unique(ends["method"]).to_pylist())):
        mine = ends.filter(pc.equal(ends["method"], method))
        wanted = np.unique(_numbers(expected.get(method, ())))
        samples, counts = np.unique(mine["sample"].to_numpy(), return_counts=True)
        nowhere = mine.filter(pc.is_null(mine["outcome"]))
        findings = {
            "missing": np.setdiff1d(wanted, samples, assume_unique=True),
            "ended more than once": samples[counts > 1],
            "not asked for": np.setdiff1d(samples, wanted, assume_unique=True),
            "without an outcome": np.unique(nowhere["sample"].to_numpy()),
        }
        problems += [f"{method}: {what}: {_listed(found)}" for what, found in findings.items() if len(found)]
    if problems:
        raise LedgerError("every sample has to end exactly once, but " + "; ".join(problems))


def _writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, SCHEMA, compression="zstd")  # type: ignore[no-untyped-call]


def _files(folder: Path, *suffixes: str) -> list[Path]:
    if not folder.is_dir():
        patterns = " or ".join(f"*{suffix}" for suffix in suffixes)
        raise LedgerError(
            f"{folder}: no such folder; expected the events of the devices there, as {patterns}"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    if not paths:
        patterns = " and no ".join(f"*{suffix}" for suffix in suffixes)
        raise LedgerError(f"{folder}: no {patterns} file in it; expected one for each device")
    return paths


def _read_file(path: Path) -> list[Event]:
    lines = path.read_bytes().split(b"\n")
    events = []
    for number, line in enumerate(lines, start=1):
        unfinished = number == len(lines)  # what follows the last line end: nothing, or a torn record
        if unfinished and not line:
            break
        try:
            event = Event.from_json(line.decode())
        except (ValueError, TypeError) as error:
            # The beginning of a JSON object is never JSON itself.
            if unfinished and isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
                break
            raise LedgerError(f"{path}, line {number}: not an event: {error}") from error
        problem = problem_of(event)
        if problem is not None:
            raise LedgerError(f"{path}, line {number}: {problem}")
        events.append(event)
    return events


def _read_part(path: Path) -> Iterator[pa.Table]:
    """The pieces of a Parquet file, checked."""
    row = 0
    try:
        with pq.ParquetFile(path) as file:  # type: ignore[no-untyped-call]
            found = file.schema_arrow
            if [(one.name, one.type) for one in found] != [(one.name, one.type) for one in SCHEMA]:
                raise _other_columns(path, found)
            for batch in file.iter_batches(_PIECE):
                check_batch(batch, str(path), row)
                yield pa.Table.from_arrays(batch.columns, schema=SCHEMA)
                row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(f"{path}: cannot be read as events: {error}") from error


def _other_columns(path: Path, found: pa.Schema) -> LedgerError:
    return LedgerError(f"{path}: columns {found.names}, expected {SCHEMA.names} with their types")


def _table(events: list[Event]) -> pa.Table:
    return pa.table({name: [getattr(e, name) for e in events] for name in SCHEMA.names}, schema=SCHEMA)


def _numbers(samples: Collection[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    if isinstance(samples, range):
        return np.arange(samples.start, samples.stop, samples.step, dtype=np.int64)
    if isinstance(samples, np.ndarray):
        return samples
    return np.fromiter(samples, np.int64, len(samples))


def _listed(samples: NDArray[np.int64], limit: int = 8) -> str:
    first = ", ".join(str(sample) for sample in samples[:limit])
    rest = len(samples) - limit
    return f"sample {first}" + (f" and {rest} more" if rest > 0 else "")
