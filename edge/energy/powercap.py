"""RAPL: the energy counters of Intel and AMD processors, as Linux shows them under ``/sys/class/powercap``.

Linux kernel documentation, "Power Capping Framework". A zone ``intel-rapl:0`` is a package; its subzones
``core`` and ``uncore`` are parts of it and are not read, ``dram`` lies beside it. ``psys`` (a whole platform)
and ``intel-rapl-mmio`` (the same package by another way) would count twice, and are left out.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.energy.meter import MeterError, Reading, Source, State, What, periods_needed
from edge.energy.periodic import Periodic

__all__ = ["PowercapMeter", "Zone", "find", "zones"]

_FOLDER = "class/powercap"
#: As the class lists its zones, side by side; and as they lie in each other, which a container may be given.
_PATTERNS = (
    "intel-rapl:*",
    "intel-rapl:*/intel-rapl:*",
    "intel-rapl/intel-rapl:*",
    "intel-rapl/intel-rapl:*/*",
)
_ZONE = re.compile(r"intel-rapl:(\d+)(?::(\d+))?")
_PERIOD_S = 1e-3  # Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, "RAPL Interfaces"


@dataclass(frozen=True)
class Zone:
    """A counter.

    Args:
        folder: its folder in sysfs.
        name: ``package-0``; ``package-0/dram``.
        what: package or dram.
        range_uj: where it starts again at 0 [uJ].
    """

    folder: Path
    name: str
    what: What
    range_uj: int

    def read(self) -> int:
        """Its state now [uJ].

        Raises:
            OSError: it is not there, or not to be read by this user.
            ValueError: it is no number.
        """
        return int((self.folder / "energy_uj").read_text(encoding="ascii"))


def zones(root: Path) -> list[Zone]:
    """The counters of the packages and of their memories under a sysfs.

    Raises:
        MeterError: a zone without a name or a range.
    """
    folders: dict[tuple[int, int], Path] = {}
    for pattern in _PATTERNS:
        for folder in (root / _FOLDER).glob(pattern):
            match = _ZONE.fullmatch(folder.name)
            if match and folder.is_dir():
                folders.setdefault((int(match[1]), int(match[2] or -1)), folder)
    return list(_measured(folders))


def _measured(folders: dict[tuple[int, int], Path]) -> Iterator[Zone]:
    packages: dict[int, str] = {}
    for (package, part), folder in sorted(folders.items()):
        try:
            name = (folder / "name").read_text(encoding="ascii").strip()
            range_uj = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise MeterError(f"{folder} has no name or no max_energy_range_uj: {error}") from error
        if range_uj <= 0:
            raise MeterError(f"{folder}: max_energy_range_uj is {range_uj}, expected more than 0")
        if part < 0 and name.startswith("package"):
            packages[package] = name
            yield Zone(folder, name, "package", range_uj)
        elif part >= 0 and name == "dram" and package in packages:
            yield Zone(folder, f"{packages[package]}/dram", "dram", range_uj)


class PowercapMeter:
    """The energy of one zone.

    The counter starts again at 0 within minutes or hours. While a window is open it is read from time to
    time, so that every such wrap is seen; where a reading comes so late that one may have been missed, the
    energy is unavailable.

    Args:
        zone: what is read.
        bound_w: what the zone can draw at most [W]; it decides how soon the counter may wrap. No package of
            today draws the default.
        interval_s: time between two readings; by default half of that in which the counter may wrap.
        clock: seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        zone: Zone,
        *,
        bound_w: float = 2000.0,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = zone.name
        self.what: What = zone.what
        self._zone = zone
        self._wrap_s = zone.range_uj / (bound_w * 1e6)
        self._interval_s = self._wrap_s / 2 if interval_s is None else interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._periodic: Periodic | None = None
        self._began = self._read_at = 0.0
        self._last_uj: int | None = None
        self._used_uj = 0
        self._fault: str | None = None

    def start(self) -> None:
        """Begin a window."""
        if self._periodic is not None:
            raise RuntimeError(f"{self.name} measures a window already")
        self._last_uj, self._used_uj, self._fault = None, 0, None
        self._began = self._read_at = self._clock()
        self.sample()
        self._periodic = Periodic(self.sample, self._interval_s)

    def sample(self) -> None:
        """Read the counter once more, beside the times at which that is done anyway."""
        with self._lock:
            if self._fault is not None:
                return
            try:
                now_uj, now = self._zone.read(), self._clock()
            except (OSError, ValueError) as error:
                self._fault = f"{self._zone.folder / 'energy_uj'} cannot be read: {error}"
                return
            late_s = now - self._read_at
            if self._last_uj is not None:
                self._used_uj += (now_uj - self._last_uj) % self._zone.range_uj
                if late_s >= self._wrap_s:
                    self._fault = (
                        f"the counter was not read for {late_s:.3g} s (was the process stopped?), and may "
                        f"wrap in {self._wrap_s:.3g} s: nobody knows how often it did"
                    )
            self._last_uj, self._read_at = now_uj, now

    def stop(self) -> Reading:
        """End the window."""
        if self._periodic is None:
            raise RuntimeError(f"{self.name} measures no window: start() comes first")
        self._periodic.stop()
        self._periodic = None
        self.sample()
        seconds = self._clock() - self._began
        if self._fault is not None:
            return Reading.unavailable(seconds, self._fault)
        if self._used_uj == 0 or seconds < _PERIOD_S:
            return Reading.unavailable(seconds, periods_needed(seconds, _PERIOD_S))
        return Reading.measured(self._used_uj / 1e6, seconds, f"RAPL counter {self._zone.folder}")


def find(roots: Sequence[Path]) -> Source:
    """The meters of the first of several sysfs that has any."""
    for root in roots:
        try:
            found = zones(root)
        except MeterError as error:
            return Source("powercap", "no", (), str(error))
        if found:
            return _readable(found)
    places = " or ".join(str(root / _FOLDER) for root in roots)
    return Source("powercap", "no", (), f"no RAPL zone in {places}: a virtual machine, or another processor")


def _readable(found: Sequence[Zone]) -> Source:
    meters: list[PowercapMeter] = []
    faults: list[str] = []
    denied = False
    for zone in found:
        try:
            zone.read()
        except (OSError, ValueError) as error:
            denied |= isinstance(error, PermissionError)
            faults.append(f"{zone.name}: {error}")
        else:
            meters.append(PowercapMeter(zone))
    told = [", ".join(meter.name for meter in meters)] if meters else []
    told += faults
    if denied:
        told.append("only root reads these counters, since CVE-2020-8694")
    state: State = "yes" if meters else "not allowed" if denied else "no"
    return Source("powercap", state, tuple(meters), "; ".join(told))
