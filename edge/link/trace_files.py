"""Bandwidth traces as the field keeps them: a rate over time, or Mahimahi's delivery opportunities."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.link.errors import LinkError
from edge.link.trace import Trace

__all__ = ["MAHIMAHI_BYTES", "read_trace"]

#: What one delivery opportunity of a Mahimahi trace carries (Netravali et al., USENIX ATC 2015).
MAHIMAHI_BYTES = 1504

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


def read_trace(path: Path | str, repeat: bool = True) -> Trace:
    """The trace of a file; its first line of numbers tells the format.

    Two columns are seconds and Mbit/s, separated by a comma, a semicolon, a tab or spaces, with or
    without a line of names above. A rate holds until the next line's time, the last one as long as
    the one before it; times are taken from the first.

    One column is Mahimahi's: each line is a whole millisecond at which 1,504 bytes can be delivered,
    as often as it stands there; the file begins again at its last. An opportunity at t is spread
    over the millisecond that ends at t, the resolution of the file, so that at every whole
    millisecond exactly as many bytes as the file says have been deliverable. (One at 0 is given
    at the end of a pass, where it coincides with the last.)

    Lines that are empty or begin with # are passed over.

    Raises:
        LinkError: a file that cannot be read or is neither. The message names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise LinkError(f"trace {path}: {reason}") from error
    rows = _rows(path, text)
    if not rows:
        raise LinkError(f"trace {path}: no line of numbers")
    try:
        return _opportunities(rows) if len(rows[0][1]) == 1 else _rates(rows, repeat)
    except _LineError as error:
        raise LinkError(f"trace {path}, line {error.line}: {error}") from error
    except LinkError as error:
        raise LinkError(f"trace {path}: {error}") from error


class _LineError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def _rows(path: Path, text: str) -> list[tuple[int, list[float]]]:
    """Number and values of each line that has any."""
    rows: list[tuple[int, list[float]]] = []
    names = False
    for number, line in _lines(text):
        fields = _SEPARATOR.split(line)
        try:
            rows.append((number, [float(value) for value in fields]))
        except ValueError:
            if rows or names:
                raise LinkError(f"trace {path}, line {number}: {line[:60]!r} are no numbers") from None
            names = True
    return rows


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if (bare := line.strip()) and not bare.startswith("#"):
            yield number, bare


def _rates(rows: list[tuple[int, list[float]]], repeat: bool) -> Trace:
    times: list[float] = []
    rates: list[float] = []
    for number, values in rows:
        if len(values) != 2:
            raise _LineError(number, f"{len(values)} columns; two, seconds and Mbit/s")
        time, rate = values
        if not math.isfinite(time) or (times and time - rows[0][1][0] <= times[-1]):
            raise _LineError(number, f"time {time:g} s; later than the line before")
        if not 0 <= rate < math.inf:
            raise _LineError(number, f"rate {rate:g} Mbit/s; at least 0")
        times.append(time - rows[0][1][0])
        rates.append(rate * 1e6)
    return Trace(times, rates, repeat)


def _opportunities(rows: list[tuple[int, list[float]]]) -> Trace:
    before = 0.0
    for number, values in rows:
        if len(values) != 1:
            raise _LineError(number, f"{len(values)} columns; one, a time in milliseconds")
        if not (values[0].is_integer() and values[0] >= before):
            raise _LineError(number, f"time {values[0]:g} ms; a whole number, not before the line above")
        before = values[0]
    last = int(before)
    if last == 0:
        raise LinkError("every delivery opportunity is at 0 ms; the last time is the length, above 0")
    stamps = np.array([int(values[0]) or last for _, values in rows])
    ends, counts = np.unique(stamps, return_counts=True)
    # The rate within the milliseconds that have opportunities; 0 after each, unless the next has some too.
    pieces = {0: 0.0} | {int(end): 0.0 for end in ends[:-1]}
    for end, count in zip(ends.tolist(), counts.tolist(), strict=True):
        pieces[end - 1] = count * MAHIMAHI_BYTES * 8 * 1e3
    kept: list[tuple[int, float]] = []
    for start, rate in sorted(pieces.items()):
        if not kept or kept[-1][1] != rate:
            kept.append((start, rate))
    starts, rates = zip(*kept, strict=True)
    return Trace([start / 1e3 for start in starts], rates, repeat=True, duration_s=last / 1e3)
