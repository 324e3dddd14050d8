"""The columns of the ledger, and the values that they take."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from edge.meter import Event, Outcome, Provenance
from fedsim.errors import FedsimError

__all__ = ["LEDGER_VERSION", "SCHEMA", "VERSION_KEY", "LedgerError", "check_batch", "problem_of"]

#: Version of the columns, kept in the file's metadata; raised when one changes its meaning or goes.
LEDGER_VERSION = 1

#: Where in a file's metadata it stands.
VERSION_KEY = b"fedsim.ledger"

_REQUIRED = {"run", "method", "client", "stage", "start_s", "duration_s", "provenance"}
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
    metadata={VERSION_KEY: str(LEDGER_VERSION).encode()},
)


class LedgerError(FedsimError, ValueError):
    """Events that cannot be a ledger. The message names the file and line, or the method and samples."""


def problem_of(event: Event) -> str | None:
    """What is wrong with the values of an event, or None: the first column that does not take its value."""
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


def check_batch(batch: pa.RecordBatch, place: str, first: int) -> None:
    """The same for the rows of a table, column by column.

    Args:
        batch: with the columns of :data:`SCHEMA`.
        place: where it was found, for the message.
        first: number of its first row there.

    Raises:
        LedgerError: a value that its column does not take (names place, row, column and value).
    """
    for name, kind in _KINDS.items():
        values = batch[name]
        if values.null_count and name in _REQUIRED:
            row = pc.index(pc.is_null(values), True).as_py()
            raise LedgerError(f"{place}, row {first + row}: {name} is missing")
        if values.null_count == len(values):
            continue
        expected = kind
        if name in _CHOICES:
            expected = f"one of {', '.join(_CHOICES[name])}"
            fits = pc.is_in(values, pa.array([*_CHOICES[name], None]))
        elif kind == _TEXT:
            continue
        else:
            fits = pc.is_finite(values)
            if kind != _NUMBER:
                fits = pc.and_(fits, pc.greater_equal(values, 0))
        row = pc.index(fits, False).as_py()
        if row >= 0:
            raise LedgerError(
                f"{place}, row {first + row}: {name} is {values[row].as_py()!r}, expected {expected}"
            )


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
