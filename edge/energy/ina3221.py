"""INA3221: the current monitors on Jetson boards, as Linux shows them under ``/sys/bus/i2c/drivers``.

Texas Instruments SBOS576; Linux kernel documentation, "Kernel driver ina3221". Each rail has a label, a
voltage in mV and a current in mA; the drivers of L4T 32 (Nano, TX2) give the power in mW. One rail is the
supply of the whole board (``VDD_IN``, ``POM_5V_IN``), the others lie behind it: only that one is measured, so
that nothing counts twice.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.energy.integral import integral
from edge.energy.meter import MeterError, Reading, Source, What, periods_needed
from edge.energy.periodic import Periodic

__all__ = ["Ina3221Meter", "Rail", "find", "rails"]

_FOLDER = "bus/i2c/drivers"
_DRIVERS = ("ina3221", "ina3221x")
_INTERVAL_S = 0.02
_LONGEST_GAP_S = 0.5


@dataclass(frozen=True)
class Rail:
    """A rail of a board.

    Args:
        label: such as ``VDD_IN``.
        files: of its power in mW; or of its voltage in mV and its current in mA.
    """

    label: str
    files: tuple[Path, ...]

    @property
    def supplies_the_board(self) -> bool:
        """Whether all other rails lie behind it."""
        return self.label.upper().endswith("_IN")

    def read(self) -> float:
        """Its power now [W].

        Raises:
            OSError: it is not there, or not to be read by this user.
            ValueError: it is no number.
        """
        values = [float(file.read_text(encoding="ascii")) for file in self.files]
        return values[0] / 1e3 if len(values) == 1 else values[0] * values[1] / 1e6


def rails(root: Path) -> list[Rail]:
    """The rails that the monitors under a sysfs measure, in the order of their names."""
    found: dict[str, Rail] = {}
    for driver in _DRIVERS:
        for folder in sorted((root / _FOLDER / driver).glob("*/*")):
            for place in (folder, *sorted(folder.glob("hwmon*"))):
                for rail in (*_hwmon(place), *_iio(place)):
                    found.setdefault(rail.label, rail)
    return [found[label] for label in sorted(found)]


def _hwmon(folder: Path) -> Iterator[Rail]:
    for label in sorted(folder.glob("in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        files = (folder / f"in{number}_input", folder / f"curr{number}_input")
        if all(file.is_file() for file in files):
            yield from _rail(label, files)


def _iio(folder: Path) -> Iterator[Rail]:
    for label in sorted(folder.glob("rail_name_*")):
        power = folder / f"in_power{label.name.removeprefix('rail_name_')}_input"
        if power.is_file():
            yield from _rail(label, (power,))


def _rail(label: Path, files: tuple[Path, ...]) -> Iterator[Rail]:
    """A rail by the file of its label; none, if that cannot be read."""
    with suppress(OSError):
        yield Rail(label.read_text(encoding="ascii", errors="replace").strip(), files)


class Ina3221Meter:
    """The energy of a rail: its power, read every 20 ms beside the work, and summed up.

    Args:
        rail: what is read.
        interval_s: time between two readings.
        longest_gap_s: a window that goes without a reading for longer is unavailable.
        clock: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        rail: Rail,
        *,
        interval_s: float = _INTERVAL_S,
        longest_gap_s: float = _LONGEST_GAP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = rail.label
        self.what: What = "soc"
        self._rail = rail
        self._interval_s = interval_s
        self._longest_gap_s = longest_gap_s
        self._clock = clock
        self._periodic: Periodic | None = None
        self._began = 0.0
        self._times, self._watts = array("d"), array("d")
        self._fault = ""

    def start(self) -> None:
        """Begin a window."""
        if self._periodic is not None:
            raise RuntimeError(f"{self.name} measures a window already")
        self._times, self._watts, self._fault = array("d"), array("d"), ""
        self._sample()
        self._began = self._clock()
        self._periodic = Periodic(self._sample, self._interval_s)

    def _sample(self) -> None:
        now = self._clock()
        try:
            watts = self._rail.read()
        except (OSError, ValueError) as error:  # one is made up for by the next; many of them leave a gap
            self._fault = f"; the last that failed: {error}"
            return
        self._times.append(now)
        self._watts.append(watts)

    def stop(self) -> Reading:
        """End the window."""
        if self._periodic is None:
            raise RuntimeError(f"{self.name} measures no window: start() comes first")
        self._periodic.stop()
        self._periodic = None
        end = self._clock()
        self._sample()
        seconds = end - self._began
        if seconds < self._interval_s:
            return Reading.unavailable(seconds, periods_needed(seconds, self._interval_s))
        try:
            joules = integral(self._times, self._watts, self._began, end, self._longest_gap_s)
        except MeterError as error:
            return Reading.unavailable(seconds, f"rail {self.name}: {error}{self._fault}")
        if joules < 0:
            return Reading.unavailable(seconds, f"rail {self.name}: {joules:.3g} J, current flows backwards")
        return Reading.measured(joules, seconds, f"INA3221, rail {self.name}, {len(self._times)} samples")


def find(roots: Sequence[Path]) -> Source:
    """The meter of a board's supply, under the first of several sysfs that has rails."""
    for root in roots:
        found = rails(root)
        if found:
            return _supply(found)
    places = " or ".join(str(root / _FOLDER) for root in roots)
    return Source("ina3221", "no", (), f"no INA3221 in {places}: not a Jetson")


def _supply(found: Sequence[Rail]) -> Source:
    names = ", ".join(rail.label for rail in found)
    supply = next((rail for rail in found if rail.supplies_the_board), None)
    if supply is None:
        return Source("ina3221", "no", (), f"none of the rails {names} is the supply of the whole board")
    try:
        supply.read()
    except PermissionError as error:
        return Source("ina3221", "not allowed", (), f"{supply.label}: {error}")
    except (OSError, ValueError) as error:
        return Source("ina3221", "no", (), f"{supply.label}: {error}")
    return Source("ina3221", "yes", (Ina3221Meter(supply),), f"{supply.label}, of the rails {names}")
