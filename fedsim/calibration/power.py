"""What this machine draws, idle and computing, where it has a meter for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.energy import Meter, What, read_window, sources
from fedsim.calibration.timing import Run

__all__ = ["WINDOWS", "Watts", "measure_power", "meters_here"]

#: Windows of each of the two, one after the other in turn.
WINDOWS: Final = 4
#: What is taken for the machine, by what there is: the first of these that has meters.
_WHOLE: Final[tuple[tuple[What, ...], ...]] = (("external",), ("soc",), ("package", "dram"), ("package",))
_OF: Final = {
    ("external",): "the external meter",
    ("soc",): "the whole board",
    ("package", "dram"): "processor and memory, without the rest of the machine",
    ("package",): "the processor, without the rest of the machine",
}


@dataclass(frozen=True, eq=False)
class Watts:
    """Mean powers.

    Args:
        idle: [windows], while this program does nothing.
        active: [windows], while it computes.
        of: what was measured, for people.
    """

    idle: NDArray[np.float64]
    active: NDArray[np.float64]
    of: str


def meters_here() -> tuple[list[Meter], str]:
    """The meters of this machine, and what was found where there is none."""
    found = sources()
    reason = "; ".join(f"{source.name}: {source.detail}" for source in found)
    return [meter for source in found for meter in source.meters], reason


def measure_power(
    meters: Sequence[Meter], work: Run, seconds: float, progress: Callable[[float], None] = lambda done: None
) -> Watts | str:
    """Mean powers over windows of idling and of computing, in turn; or why there are none.

    Args:
        meters: of this machine.
        work: keeps the processor busy.
        seconds: of all windows together.
        progress: is told the part that has passed, 0 to 1.
    """
    kinds = {meter.what for meter in meters}
    chosen = next((whole for whole in _WHOLE if kinds.issuperset(whole)), None)
    if chosen is None:
        there = ", ".join(meter.name for meter in meters)
        return f"no meter of the processor ({there})" if there else "no meter"
    used = [meter for meter in meters if meter.what in chosen]
    window_s = seconds / (2 * WINDOWS)
    watts: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * WINDOWS):
        busy = bool(number % 2)
        with read_window(used) as window:
            _busy(work, window_s) if busy else time.sleep(window_s)
        powers = []
        for name, reading in window.readings.items():
            if reading.joules is None:
                return f"{name}: {reading.detail}"
            powers.append(reading.joules / reading.seconds)
        watts[busy].append(sum(powers))
        progress((number + 1) / (2 * WINDOWS))
    idle, active = np.array(watts[False]), np.array(watts[True])
    if np.median(active) < np.median(idle):
        return (
            f"{np.median(idle):.3g} W idle and {np.median(active):.3g} W computing: something else computes "
            "here as well"
        )
    return Watts(idle, active, _OF[chosen])


def _busy(work: Run, seconds: float) -> None:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        work(0)
