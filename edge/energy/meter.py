"""What an energy meter is, and what it says of a window of time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Meter", "MeterError", "Reading", "Source", "State", "What", "periods_needed"]

#: What a meter measures. ``package`` is a processor with its cores, ``dram`` the memory beside it, ``gpu``
#: one accelerator with its memory. ``soc`` is a board at its supply, ``external`` whatever an instrument is
#: clamped to: both hold all the others.
What = Literal["package", "dram", "gpu", "soc", "external"]
State = Literal["yes", "no", "not allowed"]


class MeterError(ValueError):
    """A meter, or its log, that cannot be used. The message names it, its fault and what is allowed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter says of a window.

    Args:
        joules: energy of the window; None where it is unavailable.
        seconds: length of the window.
        provenance: ``measured``, or ``unavailable``.
        detail: where it was read, or why it is unavailable and what would help.

    Raises:
        ValueError: joules that are unavailable, negative or not finite, or none that are measured.
    """

    joules: float | None
    seconds: float
    provenance: Literal["measured", "unavailable"]
    detail: str

    def __post_init__(self) -> None:
        if (self.joules is None) != (self.provenance == "unavailable"):
            raise ValueError(f"{self.joules} J cannot be {self.provenance}")
        if self.joules is not None and not (math.isfinite(self.joules) and self.joules >= 0):
            raise ValueError(f"{self.joules} J is no energy of a window: at least 0, and finite")

    @classmethod
    def measured(cls, joules: float, seconds: float, detail: str) -> Reading:
        """A reading that the meter stands for."""
        return cls(joules, seconds, "measured", detail)

    @classmethod
    def unavailable(cls, seconds: float, reason: str) -> Reading:
        """No reading, and why."""
        return cls(None, seconds, "unavailable", reason)


class Meter(Protocol):
    """Measures one window at a time. Not for two threads at once."""

    @property
    def name(self) -> str:
        """Tells it from the other meters of the machine."""

    @property
    def what(self) -> What:
        """What it measures."""

    def start(self) -> None:
        """Begin a window.

        Raises:
            RuntimeError: one is begun already.
        """

    def stop(self) -> Reading:
        """End the window. What goes wrong with a meter is a reading that is unavailable, never an exception.

        Raises:
            RuntimeError: none was begun.
        """


@dataclass(frozen=True)
class Source:
    """One way of measuring, and what there is of it on this machine.

    Args:
        name: such as ``powercap``.
        state: ``yes`` where it has meters; ``not allowed`` where it has, and they cannot be read.
        meters: those that can be read.
        detail: what was found; what was not, and why.
    """

    name: str
    state: State
    meters: tuple[Meter, ...]
    detail: str


def periods_needed(seconds: float, period_s: float) -> str:
    """Why a window says nothing of a counter that moves every ``period_s``, and how long it has to be.

    Either end is wrong by up to a period, so a hundred of them are right to 2 per cent.
    """
    return (
        f"{seconds:.3g} s are too short for a counter that moves about every {period_s:g} s, or it stands "
        f"still; repeat the work for at least {100 * period_s:g} s, and divide"
    )
