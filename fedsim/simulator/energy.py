"""Joules of a fleet, from when its devices worked and transferred."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedsim.hardware.radio import RadioEnergy, RadioModel
from fedsim.hardware.radio import energy as radio_energy
from fedsim.simulator.fleet import Outcome

__all__ = ["DeviceJoules", "emptied", "energy_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DeviceJoules:
    """What one device used from the beginning of a run to ``until_s``, and for what.

    Arrays have an entry for each of the device's jobs, in their order. They are incremental: above what the
    device with a sleeping radio draws all the time. A tail belongs to the transfer ahead of it, and lasts
    until the next one at most.

    Args:
        compute_j: of the processor, [jobs].
        up_j: of the radio, to send, [jobs]: waking it, the bits, its tail.
        down_j: of the radio, to receive, [jobs].
        bits_j: of both, what is neither waking nor tail, [jobs].
        base_j: of the device that does nothing.
        radio: where the radio's energy went, transfer by transfer.
        powered: whether the device's powers are known; else ``compute_j`` and ``base_j`` say nothing.
        heard: whether the radio is known; else what is its own says nothing.
    """

    compute_j: Floats
    up_j: Floats
    down_j: Floats
    bits_j: Floats
    base_j: float
    radio: RadioEnergy
    powered: bool = True
    heard: bool = True

    @property
    def promotion_j(self) -> float:
        """Of the radio's waking, above its sleep."""
        return float((self.radio.promotion_j - self.radio.idle_w * self.radio.promotion_s).sum())

    @property
    def tail_j(self) -> float:
        """Of the radio's tails, above its sleep."""
        return float((self.radio.tail_j - self.radio.idle_w * self.radio.tail_s).sum())

    @property
    def idle_j(self) -> float:
        """Of a radio that sleeps all the time."""
        return self.radio.idle_w * (self.radio.until - self.radio.since)

    @property
    def total_j(self) -> float:
        """All of it, the radio's sleep included."""
        return float(self.base_j + self.compute_j.sum() + self.radio.total_j)


def energy_of(outcome: Outcome, device: int, until_s: float | None = None) -> DeviceJoules:
    """Energy of one device of a simulated fleet.

    Args:
        outcome: of the run.
        device: its number.
        until_s: end of the time that is counted, behind its last transfer; by default that, and the tail.

    Raises:
        ValueError: the time ends ahead of the last transfer.
    """
    power, radio = outcome.devices[device].power, outcome.devices[device].radio
    jobs = outcome.jobs_of(device)
    count = len(jobs)
    moved = _transfers(jobs)
    worked = np.where(np.isnan(jobs["computed"]), 0.0, jobs["compute_s"])
    if until_s is None:
        ended = np.nanmax(np.concatenate([moved.ends, jobs["computed"], [0.0]]))
        until_s = float(ended + radio.tail_s)
    spent = radio_energy(radio, moved.starts, moved.ends, moved.up_bits, moved.down_bits, until_s)
    each, flowing = np.zeros(2 * count), np.zeros(2 * count)
    each[moved.places] = spent.incremental_transfer_j
    flowing[moved.places] = spent.active_j - spent.idle_w * spent.active_s
    return DeviceJoules(
        compute_j=(power.active_w - power.base_w) * worked,
        up_j=each[:count],
        down_j=each[count:],
        bits_j=flowing[:count] + flowing[count:],
        base_j=power.base_w * until_s,
        radio=spent,
    )


def emptied(outcome: Outcome, until_s: float) -> Outcome:
    """The same with the time at which each battery was empty, whether or not the device had more to begin.

    The simulation looks at a battery when its device begins something. Here all that the device drew is laid
    out in time: joules of a stage or of a transfer evenly over it, the rest by its power.

    Args:
        outcome: of a simulation.
        until_s: end of the time that is looked at.
    """
    found = outcome.empty_s.copy()
    for number, device in enumerate(outcome.devices):
        if device.battery is not None:
            found[number] = _emptied_s(outcome, number, device.battery.joules, until_s)
    return replace(outcome, empty_s=found)


@dataclass(frozen=True, eq=False)
class _Moved:
    """The transfers of a device as they began; ``places`` are those of what went up, then down."""

    places: NDArray[np.int64]
    starts: Floats
    ends: Floats
    up_bits: Floats
    down_bits: Floats


def _transfers(jobs: NDArray[np.void]) -> _Moved:
    nothing = np.zeros(len(jobs))
    starts = np.concatenate([jobs["up_begun"], jobs["down_begun"]])
    ends = np.concatenate([jobs["up_done"], jobs["down_done"]])
    up = np.concatenate([jobs["up_bits"], nothing])
    down = np.concatenate([nothing, jobs["down_bits"]])
    happened = np.flatnonzero(~np.isnan(ends))
    order = happened[np.argsort(starts[happened], kind="stable")]
    return _Moved(order, starts[order], ends[order], up[order], down[order])


def _emptied_s(outcome: Outcome, number: int, capacity_j: float, until_s: float) -> float:
    """When a device had used so much; NaN where it had not."""
    device, jobs = outcome.devices[number], outcome.jobs_of(number)
    radio, moved = device.radio, _transfers(jobs)
    last = float(np.nanmax(np.concatenate([moved.ends, jobs["computed"], [until_s]])))
    spent = radio_energy(radio, moved.starts, moved.ends, moved.up_bits, moved.down_bits, last)
    worked = jobs[~np.isnan(jobs["computed"])]
    more_w = device.power.active_w - device.power.base_w
    spans = [
        (worked["started"], worked["computed"], more_w * worked["compute_s"]),
        (
            moved.starts - spent.promotion_s,
            moved.starts,
            spent.promotion_j - radio.idle_w * spent.promotion_s,
        ),
        (moved.starts, moved.ends, spent.active_j - radio.idle_w * spent.active_s),
        *_tails(radio, moved.ends, spent.tail_s),
    ]
    begin, end, joules = (np.concatenate(parts) for parts in zip(*spans, strict=True))
    found = _reached(begin, end, joules, device.power.base_w + radio.idle_w, capacity_j)
    return found if found <= last else np.nan


def _tails(radio: RadioModel, ends: Floats, tail_s: Floats) -> list[tuple[Floats, Floats, Floats]]:
    """The phases of tails that last so long behind these ends: beginnings, ends, joules above idling."""
    found, passed = [], 0.0
    for seconds, watts in radio.tail:
        phase = np.clip(tail_s - passed, 0.0, seconds)
        found.append((ends + passed, ends + passed + phase, (watts - radio.idle_w) * phase))
        passed += seconds
    return found


def _reached(begin: Floats, end: Floats, joules: Floats, rest_w: float, goal_j: float) -> float:
    """When energy that is drawn evenly from each begin to its end, and ``rest_w`` besides, comes to a sum."""
    took = end - begin
    lasting = took > 0
    watts = joules[lasting] / took[lasting]
    times = np.concatenate([[0.0], begin[lasting], end[lasting], end[~lasting]])
    changes = np.concatenate([[rest_w], watts, -watts, np.zeros((~lasting).sum())])
    jumps = np.concatenate([np.zeros(1 + 2 * len(watts)), joules[~lasting]])
    order = np.argsort(times, kind="stable")
    times, power, jump = times[order], np.cumsum(changes[order]), np.cumsum(jumps[order])
    flowed = np.concatenate([[0.0], np.cumsum(power[:-1] * np.diff(times))])
    drawn = flowed + jump
    place = int(np.argmax(drawn >= goal_j)) if drawn[-1] >= goal_j else len(drawn)
    left = goal_j - drawn[place - 1]  # place is 1 at least: nothing is drawn at 0
    watts_then = max(float(power[place - 1]), 0.0)
    at = times[place - 1] + left / watts_then if watts_then > 0 else np.inf
    return float(min(at, times[place]) if place < len(times) else at)
