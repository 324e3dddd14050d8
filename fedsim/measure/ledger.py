"""The ledger: every event of a run, checked, in one Parquet file.

Devices append events to ``events/<client>.jsonl`` as they happen; when a run ends, these become one
table. Summary, tables and plots derive from that table and from nothing else.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from edge.meter import Event, Outcome, Provenance
from fedsim.errors import FedsimError
from fedsim.measure.files import replacing

__all__ = [
    "LEDGER_VERSION",
    "SCHEMA",
    "LedgerError",
    "check",
    "read_events",
    "read_parquet",
    "to_table",
    "write_parquet",
]

#: Version of the columns, kept in the file's metadata; raised when one changes its meaning or goes.
LEDGER_VERSION = 1

_VERSION_KEY = b"fedsim.ledger"
_REQUIRED = {"run", "method", "client", "stage", "start_s", "duration_s", "provenance"}
_ADDED = {"due_s"}  # columns that older ledgers do not have
_CHOICES = {"provenance": get_args(Provenance), "outcome": get_args(Outcome)}
_TYPES: dict[str, pa.DataType] = {
    "run": pa.string(),
    "method": pa.string(),
    "client": pa.string(),
    "stage": pa.string(),
    "start_s": pa.float64(),
    "duration_s": pa.float64(),
    "provenance": pa.string(),
    "rate": pa.float64(),
    "sample": pa.int64(),
    "round": pa.int64(),
    "ideal_bits": pa.float64(),
    "payload_bytes": pa.int64(),
    "frame_bytes": pa.int64(),
    "wire_bytes": pa.int64(),
    "reply_wire_bytes": pa.int64(),
    "joules": pa.float64(),
    "outcome": pa.string(),
    "label": pa.int64(),
    "prediction": pa.int64(),
    "due_s": pa.float64(),
    "detail": pa.string(),
}

_TEXT, _COUNT, _AMOUNT, _NUMBER = (
    "text",
    "a whole number, 0 or more",
    "a finite number, 0 or more",
    "a finite number",
)


def _kind(name: str, type_: pa.DataType) -> str:
    if pa.types.is_string(type_):
        return _TEXT
    if pa.types.is_integer(type_):
        return _COUNT
    return _NUMBER if name in {"rate", "start_s", "due_s"} else _AMOUNT


_KINDS = {name: _kind(name, type_) for name, type_ in _TYPES.items()}

#: The columns of ``ledger.parquet``: the fields of :class:`edge.meter.Event`, in their order.
SCHEMA = pa.schema(
    [pa.field(f.name, _TYPES[f.name], nullable=f.name not in _REQUIRED) for f in fields(Event)],
    metadata={_VERSION_KEY: str(LEDGER_VERSION).encode()},
)


class LedgerError(FedsimError, ValueError):
    """Events that cannot be a ledger. The message names the file and line, or the method and samples."""


def read_events(folder: Path) -> list[Event]:
    """All events of the ``*.jsonl`` files of a folder, file by file in the order of their names.

    A last line that was cut off, because its writer was killed, is skipped: it has no line end and
    is no JSON object.

    Raises:
        LedgerError: no such folder, no file in it, or a line that is no event (names file and line).
    """
    if not folder.is_dir():
        raise LedgerError(f"{folder}: no such folder; expected the events of the devices there, as *.jsonl")
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise LedgerError(f"{folder}: no *.jsonl file in it; expected one for each device")
    return [event for path in paths for event in _read_file(path)]


def to_table(events: Iterable[Event]) -> pa.Table:
    """The events as a table of :data:`SCHEMA`, one row each, in their order.

    Raises:
        LedgerError: a value that its column does not take (names event, field and value).
    """
    listed = list(events)
    for number, event in enumerate(listed):
        problem = _problem(event)
        if problem is not None:
            raise LedgerError(f"event {number}: {problem}")
    return pa.table({name: [getattr(e, name) for e in listed] for name in SCHEMA.names}, schema=SCHEMA)


def write_parquet(events: Iterable[Event], path: Path) -> pa.Table:
    """Write the ledger, whole or not at all, and return it as a table.

    Raises:
        LedgerError: a value that its column does not take.
    """
    table = to_table(events)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")  # type: ignore[no-untyped-call]
    return table


def read_parquet(path: Path) -> pa.Table:
    """The ledger written by :func:`write_parquet`; of an older one, columns that it does not have are null.

    Raises:
        LedgerError: no such file, not Parquet, another version or other columns.
    """
    try:
        table = pq.read_table(path)  # type: ignore[no-untyped-call]
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(f"{path}: cannot be read as a ledger: {error}") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version != str(LEDGER_VERSION).encode():
        found = "none" if version is None else version.decode(errors="replace")
        raise LedgerError(f"{path}: ledger version {found}, expected {LEDGER_VERSION}")
    for name in _ADDED - set(table.schema.names):
        table = table.add_column(
            min(SCHEMA.get_field_index(name), table.num_columns),
            SCHEMA.field(name),
            pa.nulls(table.num_rows, SCHEMA.field(name).type),
        )
    if not table.schema.equals(SCHEMA):
        raise LedgerError(f"{path}: columns {table.schema.names}, expected {SCHEMA.names} with their types")
    return table


def check(events: Iterable[Event], expected: Mapping[str, set[int]]) -> None:
    """Hold the rule that every sample ends exactly once: one ``total`` event for each method and sample.

    Args:
        events: of one run.
        expected: the sample numbers that each method was to process.

    Raises:
        LedgerError: names, method by method, what is missing, what ended more than once, what was
            never asked for, and what ended without an outcome.
    """
    ends = [e for e in events if e.stage == "total" and e.sample is not None]
    problems = []
    for method in sorted(expected.keys() | {e.method for e in ends}):
        mine = [e for e in ends if e.method == method]
        wanted = expected.get(method, set())
        counts = Counter(e.sample for e in mine if e.sample is not None)
        findings = {
            "missing": wanted - counts.keys(),
            "ended more than once": {s for s, n in counts.items() if n > 1},
            "not asked for": counts.keys() - wanted,
            "without an outcome": {e.sample for e in mine if e.sample is not None and e.outcome is None},
        }
        problems += [f"{method}: {what}: {_listed(samples)}" for what, samples in findings.items() if samples]
    if problems:
        raise LedgerError("every sample has to end exactly once, but " + "; ".join(problems))


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
        problem = _problem(event)
        if problem is not None:
            raise LedgerError(f"{path}, line {number}: {problem}")
        events.append(event)
    return events


def _problem(event: Event) -> str | None:
    """What is wrong with the values of an event, or None."""
    for name, kind in _KINDS.items():
        value: Any = getattr(event, name)
        if value is None:
            if name in _REQUIRED:
                return f"{name} is missing"
        elif not _fits(value, kind):
            return f"{name} is {value!r}, expected {kind}"
        elif name in _CHOICES and value not in _CHOICES[name]:
            return f"{name} is {value!r}, expected one of {', '.join(_CHOICES[name])}"
    return None


def _fits(value: Any, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if kind == _COUNT:
        return isinstance(value, int) and 0 <= value < 2**63
    if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return False
    return kind == _NUMBER or value >= 0


def _listed(samples: set[int], limit: int = 8) -> str:
    first = ", ".join(str(s) for s in sorted(samples)[:limit])
    rest = len(samples) - limit
    return f"sample {first}" + (f" and {rest} more" if rest > 0 else "")
