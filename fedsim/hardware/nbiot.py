"""NB-IoT and LTE-M: a device that sleeps, wakes for an exchange, and stays up for a while behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from fedsim.hardware.radio import RadioModel

__all__ = ["Exchange", "NbIot", "radio_model_of"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one exchange takes, from sleep to sleep."""

    delivered_s: float  #: from the wish to send until the last bit has arrived
    seconds: float  #: until the device sleeps again
    joules: float


@dataclass(frozen=True, slots=True)
class NbIot:
    """A device of state powers, in the manner of 3GPP TR 45.820 (section 5.4).

    Args:
        up_bps: rate at which it sends, bit/s.
        down_bps: rate at which it receives, bit/s.
        transmit_w: while it sends.
        receive_w: while it receives.
        idle_w: while it waits for its inactivity timer.
        sleep_w: in power saving mode.
        inactivity_s: from the last bit until it sleeps; 0 where release assistance ends the exchange at once.
        wake_s: from sleep until bits can flow: synchronising, and registering anew.
        wake_w: meanwhile.

    Raises:
        ValueError: a rate that is not above 0, or another value below 0.
    """

    up_bps: float
    down_bps: float
    transmit_w: float
    receive_w: float
    idle_w: float
    sleep_w: float
    inactivity_s: float
    wake_s: float = 0.0
    wake_w: float = 0.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = "more than 0" if one.name.endswith("_bps") else "0 or more"
            if not 0 <= value < math.inf or (value == 0 and one.name.endswith("_bps")):
                raise ValueError(f"{one.name} is {value}, and has to be {least}")

    def exchange(self, up_bytes: float, down_bytes: float) -> Exchange:
        """An exchange that finds the device asleep: it wakes, sends, receives, waits, and sleeps again."""
        for key, value in (("up_bytes", up_bytes), ("down_bytes", down_bytes)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{key} is {value}, and has to be 0 or more")
        up_s, down_s = 8 * up_bytes / self.up_bps, 8 * down_bytes / self.down_bps
        states = (
            (self.wake_s, self.wake_w),
            (up_s, self.transmit_w),
            (down_s, self.receive_w),
            (self.inactivity_s, self.idle_w),
        )
        seconds = math.fsum(duration for duration, _ in states)
        joules = math.fsum(duration * watts for duration, watts in states)
        return Exchange(self.wake_s + up_s + down_s, seconds, joules)

    def energy(self, up_bytes: float, down_bytes: float, period_s: float) -> float:
        """Joules of one period, of an exchange and of the sleep until the next.

        Raises:
            ValueError: a period that is shorter than the exchange.
        """
        exchange = self.exchange(up_bytes, down_bytes)
        if not exchange.seconds <= period_s < math.inf:
            raise ValueError(
                f"period_s is {period_s}, and an exchange of {up_bytes:g} bytes up and {down_bytes:g} down "
                f"takes {exchange.seconds:.3f} s"
            )
        return exchange.joules + self.sleep_w * (period_s - exchange.seconds)


def radio_model_of(nbiot: NbIot) -> RadioModel:
    """The same device by the states of a radio: it wakes by a promotion, and its inactivity is a tail.

    At its own rates it draws ``transmit_w`` while it sends and ``receive_w`` while it receives. Where it has
    a part of a carrier only, it draws that in as much of the time, and waits at ``idle_w`` for the rest. An
    answer behind the inactivity timer finds it asleep, and is charged a wake-up: that a device in power
    saving mode is not to be reached before it wakes of itself is not modelled.
    """
    active_w = min(nbiot.idle_w, nbiot.transmit_w, nbiot.receive_w)
    return RadioModel(
        idle_w=nbiot.sleep_w,
        promotion_s=nbiot.wake_s,
        promotion_w=nbiot.wake_w,
        active_w=active_w,
        up_w_per_bps=(nbiot.transmit_w - active_w) / nbiot.up_bps,
        down_w_per_bps=(nbiot.receive_w - active_w) / nbiot.down_bps,
        tail=((nbiot.inactivity_s, nbiot.idle_w),),
    )
