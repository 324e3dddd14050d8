"""The log of a meter beside the machine: a USB meter, a Monsoon, a Nordic PPK2, a wall-plug meter.

A text file of lines ``t,watts``: a time in seconds and the power at that time. That is how the energy of
boards and microcontrollers is measured; what a tool writes in other columns or units is converted first.
"""

from __future__ import annotations

import csv
import math
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

from edge.energy.integral import integral
from edge.energy.meter import MeterError, Reading, What

__all__ = ["CsvMeter", "PowerLog", "read_power_log"]

_HEADER = ("t", "watts")
_LONGEST_GAP_S = 1.0


@dataclass(frozen=True)
class PowerLog:
    """Samples of power.

    Args:
        path: the file that they come from.
        times: Unix times [s], in order.
        watts: as many. Single ones may be negative: instruments are noisy about 0.
    """

    path: Path
    times: array[float]
    watts: array[float]

    def reading(self, begin: float, end: float, longest_gap_s: float = _LONGEST_GAP_S) -> Reading:
        """The energy between two Unix times, by the trapezoidal rule.

        Unavailable where the log does not span the window, where two samples in it are further apart than
        ``longest_gap_s``, or where the sum is negative.

        Raises:
            ValueError: a window that ends before it begins.
        """
        if not begin <= end:
            raise ValueError(f"a window from {begin} to {end} ends before it begins")
        seconds = end - begin
        try:
            joules = integral(self.times, self.watts, begin, end, longest_gap_s)
        except MeterError as error:
            return Reading.unavailable(seconds, f"{self.path}: {error}")
        if joules < 0:
            return Reading.unavailable(
                seconds, f"{self.path}: {joules:.3g} J; is the current measured backwards?"
            )
        return Reading.measured(joules, seconds, f"samples of {self.path}")


def read_power_log(path: Path, origin_s: float = 0.0) -> PowerLog:
    """Read lines ``t,watts``, with a header of these two words or without. Empty lines are skipped.

    Args:
        path: the file.
        origin_s: Unix time at which ``t`` is 0; 0 where ``t`` is a Unix time itself.

    Raises:
        MeterError: a file that cannot be read, has other columns, has what is no finite number, or goes
            back in time; names the line.
    """
    times, watts = array("d"), array("d")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines)
            for first, row in enumerate(filter(None, rows)):
                if first == 0 and tuple(cell.strip().lower() for cell in row) == _HEADER:
                    continue
                when, power = _numbers(row, f"{path}, line {rows.line_num}")
                if times and when + origin_s < times[-1]:
                    raise MeterError(f"{path}, line {rows.line_num}: t = {row[0].strip()} goes back in time")
                times.append(when + origin_s)
                watts.append(power)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MeterError(f"{path} cannot be read: {error}") from error
    if not times:
        raise MeterError(f"{path} has no sample; expected are lines t,watts")
    return PowerLog(path, times, watts)


def _numbers(row: list[str], where: str) -> tuple[float, float]:
    try:
        when, power = map(float, row)
    except ValueError:
        when = power = math.nan
    if not (math.isfinite(when) and math.isfinite(power)):
        raise MeterError(
            f"{where}: {','.join(row)[:60]!r}; expected is t,watts: seconds and W, two finite numbers"
        )
    return when, power


class CsvMeter:
    """A log that is written while the work goes on, as a meter. The clocks of both have to agree.

    Where the log is closed later, use :meth:`PowerLog.reading` with the times of the work.

    Args:
        path: the file; it need not be there yet.
        origin_s: Unix time at which its ``t`` is 0.
        longest_gap_s: a window with two samples further apart is unavailable.
    """

    def __init__(self, path: Path, *, origin_s: float = 0.0, longest_gap_s: float = _LONGEST_GAP_S) -> None:
        self.name = path.name
        self.what: What = "external"
        self._path = path
        self._origin_s = origin_s
        self._longest_gap_s = longest_gap_s
        self._began: float | None = None

    def start(self) -> None:
        """Begin a window."""
        if self._began is not None:
            raise RuntimeError(f"{self.name} measures a window already")
        self._began = time.time()

    def stop(self) -> Reading:
        """End the window and read the log."""
        if self._began is None:
            raise RuntimeError(f"{self.name} measures no window: start() comes first")
        begin, self._began = self._began, None
        end = max(begin, time.time())
        try:
            log = read_power_log(self._path, self._origin_s)
        except MeterError as error:
            return Reading.unavailable(end - begin, str(error))
        return log.reading(begin, end, self._longest_gap_s)
