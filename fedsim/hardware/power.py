"""What a device draws: one power while it idles, another while it computes."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["DeviceEnergy", "DevicePower"]


@dataclass(frozen=True, slots=True)
class DeviceEnergy:
    """Energy of a device over a span of time."""

    incremental_j: float  #: what the computing cost: above the base power
    total_j: float  #: what the device drew, base power included


@dataclass(frozen=True, slots=True)
class DevicePower:
    """Powers of a device, its radio apart.

    Args:
        base_w: while it is on and computes nothing.
        active_w: while it computes, base power included.

    Raises:
        ValueError: a power below 0, or an active one below the base.
    """

    base_w: float
    active_w: float

    def __post_init__(self) -> None:
        if not 0 <= self.base_w <= self.active_w < math.inf:
            raise ValueError(
                f"base_w {self.base_w} and active_w {self.active_w} have to be 0 or more, "
                "and the active one includes the base"
            )

    def energy(self, busy_s: float, span_s: float) -> DeviceEnergy:
        """Energy of a span of ``span_s`` seconds, of which ``busy_s`` were spent computing.

        Raises:
            ValueError: more time busy than there is, or a time below 0.
        """
        if not 0 <= busy_s <= span_s < math.inf:
            raise ValueError(
                f"busy for {busy_s} s of {span_s} s: a device is busy from 0 s to the whole span"
            )
        incremental = (self.active_w - self.base_w) * busy_s
        return DeviceEnergy(incremental, self.base_w * span_s + incremental)

    def mean_w(self, utilisation: float) -> float:
        """Mean power at a utilisation of 0 to 1: ``P_base + (P_active - P_base) u``."""
        if not 0 <= utilisation <= 1:
            raise ValueError(f"utilisation {utilisation} is not within 0 to 1")
        return self.base_w + (self.active_w - self.base_w) * utilisation
