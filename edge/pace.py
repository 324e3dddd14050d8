"""The pace of another device: its compute stages take as long here as they would take there."""

from __future__ import annotations

from dataclasses import dataclass

from edge.bundle import DeviceHalf
from edge.clock import Clock

__all__ = ["SLOWER", "Pace"]

#: What the events say of a sample for which this host took longer than the device that it stands for.
SLOWER = "host slower than the modelled device"


@dataclass(frozen=True, slots=True)
class Pace:
    """What the stages of one model take on a modelled device. A stage that is over sooner is waited out.

    The device has one processor: the head and the encoder of a sample are through before those of another
    begin, however many are in flight. What a fallback model computes takes this host's time.

    Args:
        head_s: seconds of the stage ``head``; None leaves it to this host.
        encode_s: seconds of the stage ``encode``; likewise.
    """

    head_s: float | None = None
    encode_s: float | None = None

    def __bool__(self) -> bool:
        return self.head_s is not None or self.encode_s is not None

    def target(self, stage: str) -> float | None:
        """Seconds that a stage is to take; None for as long as it takes."""
        return {"head": self.head_s, "encode": self.encode_s}.get(stage)

    def check(self, half: DeviceHalf) -> None:
        """See that ``half`` can be run so.

        Raises:
            ValueError: a time for the encoder of a model that has none.
        """
        if half.local and self.encode_s is not None:
            raise ValueError(f"model {half.spec.name} runs whole on the device: it has no encode_s")

    def note(self, clock: Clock) -> str | None:
        """What is to be said of a sample; None where each of its stages was in time."""
        late = [s for s, *_ in clock.spans if self.target(s) is not None and s not in clock.modelled]
        return f"{SLOWER}: {', '.join(late)}" if late else None
