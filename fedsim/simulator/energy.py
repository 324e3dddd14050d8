"""Joules of a fleet, from when its devices worked and transferred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.hardware.radio import RadioEnergy
from fedsim.hardware.radio import energy as radio_energy
from fedsim.simulator.fleet import Outcome

__all__ = ["DeviceJoules", "energy_of"]

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
    """

    compute_j: Floats
    up_j: Floats
    down_j: Floats
    bits_j: Floats
    base_j: float
    radio: RadioEnergy

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
    starts = np.concatenate([jobs["up_begun"], jobs["down_begun"]])
    ends = np.concatenate([jobs["up_done"], jobs["down_done"]])
    up = np.concatenate([jobs["up_bits"], np.zeros(count)])
    down = np.concatenate([np.zeros(count), jobs["down_bits"]])
    happened = np.flatnonzero(~np.isnan(ends))
    order = happened[np.argsort(starts[happened], kind="stable")]
    worked = np.where(np.isnan(jobs["computed"]), 0.0, jobs["compute_s"])
    if until_s is None:
        ended = np.nanmax(np.concatenate([ends[order], jobs["computed"], [0.0]]))
        until_s = float(ended + radio.tail_s)
    spent = radio_energy(radio, starts[order], ends[order], up[order], down[order], until_s)
    each, flowing = np.zeros(2 * count), np.zeros(2 * count)
    each[order] = spent.incremental_transfer_j
    flowing[order] = spent.active_j - spent.idle_w * spent.active_s
    return DeviceJoules(
        compute_j=(power.active_w - power.base_w) * worked,
        up_j=each[:count],
        down_j=each[count:],
        bits_j=flowing[:count] + flowing[count:],
        base_j=power.base_w * until_s,
        radio=spent,
    )
