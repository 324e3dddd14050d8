"""LoRa: how long a payload is on air, how often that is allowed, and what it costs.

Features of a few thousand bytes do not pass a LoRaWAN: they need tens of frames, and a duty cycle of 1 %
makes a device wait 99 times as long as it sent. :meth:`LoRa.fits` says so in figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["EU868_PAYLOAD_BYTES", "RECEIVE_DELAYS_S", "RX2_SPREADING_FACTOR", "Fit", "LoRa", "Phase"]

#: Longest application payload by spreading factor at 125 kHz, where a repeater may stand on the way (else 7
#: and 8 take 242): LoRaWAN regional parameters, EU863-870, data rates 5 to 0, as in Semtech's LoRaMac-node,
#: v4.4.3, src/mac/region/RegionEU868.h, MaxPayloadOfDatarateRepeaterEU868.
EU868_PAYLOAD_BYTES: Mapping[int, int] = {7: 222, 8: 222, 9: 115, 10: 51, 11: 51, 12: 51}
#: From the end of an uplink to each of the two windows in which a device of class A listens for an answer:
#: RECEIVE_DELAY1 and RECEIVE_DELAY2, in the same file.
RECEIVE_DELAYS_S = (1.0, 2.0)
#: Of the second window at 125 kHz (EU868_RX_WND_2_DR, data rate 0); the first has that of the uplink.
RX2_SPREADING_FACTOR = 12

_LOW_DATA_RATE_SYMBOL_S = 0.016  # from here on symbols carry two bits less


@dataclass(frozen=True, slots=True)
class Phase:
    """What a module does around a frame: wake up, listen, turn off.

    Args:
        name: of the phase.
        seconds: for each frame.
        amperes: that it draws meanwhile.

    Raises:
        ValueError: a value below 0.
    """

    name: str
    seconds: float
    amperes: float

    def __post_init__(self) -> None:
        for key in ("seconds", "amperes"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ValueError(
                    f"{key} of phase {self.name!r} is {getattr(self, key)}, and has to be 0 or more"
                )


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether payloads of a size can be sent at a period."""

    fits: bool
    period_s: float  #: the shortest period at which they can
    reason: str  #: a sentence for people


@dataclass(frozen=True, slots=True)
class LoRa:
    """A LoRaWAN device at one spreading factor, alone on its channel and always heard.

    Times are of Semtech's SX1276 datasheet, section 4.1.1.7.

    Args:
        spreading_factor: 6 to 12; 6 takes an implicit header.
        duty_cycle: part of the time that it may send, above 0 and at most 1.
        volts: of its supply.
        transmit_a: current while a frame is on air.
        phases: what it draws besides for each frame.
        bandwidth_hz: of the channel.
        coding_rate: 1 to 4, for 4/5 to 4/8.
        preamble_symbols: programmed, without the 4.25 that the radio adds.
        header_bytes: of LoRaWAN, in each frame ahead of the payload.
        explicit_header: whether the radio sends its own header.
        crc: whether the radio adds a checksum.
        max_payload_bytes: of the application in one frame; None for what EU868 allows.
        receive_a: current while an answer is on air.
        sleep_a: current in between, which all the others hold.

    Raises:
        ValueError: a value out of its range, or no ``max_payload_bytes`` where EU868 has none.
    """

    spreading_factor: int
    duty_cycle: float
    volts: float
    transmit_a: float
    phases: tuple[Phase, ...] = ()
    bandwidth_hz: float = 125e3
    coding_rate: int = 1
    preamble_symbols: int = 8
    header_bytes: int = 13
    explicit_header: bool = True
    crc: bool = True
    max_payload_bytes: int | None = None
    receive_a: float = 0.0
    sleep_a: float = 0.0

    def __post_init__(self) -> None:
        lowest = 7 if self.explicit_header else 6
        if self.spreading_factor not in range(lowest, 13):
            hint = " (6 takes an implicit header)" if self.explicit_header else ""
            raise ValueError(f"spreading_factor is {self.spreading_factor}, allowed are {lowest} to 12{hint}")
        if self.coding_rate not in range(1, 5):
            raise ValueError(f"coding_rate is {self.coding_rate}, allowed are 1 to 4")
        if not 0 < self.duty_cycle <= 1:
            raise ValueError(f"duty_cycle is {self.duty_cycle}, and has to be above 0 and at most 1")
        for key in ("volts", "bandwidth_hz"):
            if not 0 < getattr(self, key) < math.inf:
                raise ValueError(f"{key} is {getattr(self, key)}, and has to be more than 0")
        for key in ("transmit_a", "preamble_symbols", "header_bytes", "receive_a", "sleep_a"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ValueError(f"{key} is {getattr(self, key)}, and has to be 0 or more")
        awake = {"transmit_a": self.transmit_a, **{f"phase {one.name!r}": one.amperes for one in self.phases}}
        for key, amperes in awake.items():
            if amperes < self.sleep_a:
                raise ValueError(f"{key} is {amperes} A, and has to be at least sleep_a, {self.sleep_a} A")
        if self.max_payload_bytes is not None:
            if self.max_payload_bytes < 1:
                raise ValueError(f"max_payload_bytes is {self.max_payload_bytes}, and has to be 1 or more")
        elif self.spreading_factor not in EU868_PAYLOAD_BYTES or self.bandwidth_hz != 125e3:
            raise ValueError(
                f"max_payload_bytes is needed: EU868 has none for SF{self.spreading_factor} "
                f"at {self.bandwidth_hz / 1e3:g} kHz"
            )

    @property
    def symbol_s(self) -> float:
        """Duration of a symbol, ``2^SF / BW``, in seconds."""
        return float(2.0**self.spreading_factor / self.bandwidth_hz)

    @property
    def frame_payload_bytes(self) -> int:
        """Most application bytes in one frame."""
        if self.max_payload_bytes is not None:
            return self.max_payload_bytes
        return EU868_PAYLOAD_BYTES[self.spreading_factor]

    def time_on_air(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Seconds on air of single frames.

        Args:
            payload_bytes: any shape, of the application, at most :attr:`frame_payload_bytes` each.

        Raises:
            ValueError: a payload that is longer, or below 0.
        """
        size = np.asarray(payload_bytes, dtype=np.float64)
        if not ((size >= 0) & (size <= self.frame_payload_bytes)).all():
            raise ValueError(
                f"a frame of SF{self.spreading_factor} carries 0 to {self.frame_payload_bytes} bytes, "
                f"got {payload_bytes!r}"
            )
        slow = self.symbol_s >= _LOW_DATA_RATE_SYMBOL_S
        bits = 8 * (size + self.header_bytes) - 4 * self.spreading_factor + 28
        bits += 16 * self.crc - 20 * (not self.explicit_header)
        blocks = np.ceil(bits / (4 * (self.spreading_factor - 2 * slow)))
        symbols = 8 + np.maximum(blocks * (self.coding_rate + 4), 0)
        return np.asarray((self.preamble_symbols + 4.25 + symbols) * self.symbol_s)

    def frames(self, payload_bytes: int) -> NDArray[np.int64]:
        """[frames], application bytes of the frames that a payload is sent in: full ones and a rest."""
        if payload_bytes < 0:
            raise ValueError(f"payload_bytes is {payload_bytes}, and has to be 0 or more")
        full, rest = divmod(payload_bytes, self.frame_payload_bytes)
        sizes = [self.frame_payload_bytes] * full + [rest] * (rest > 0 or not full)
        return np.array(sizes, dtype=np.int64)

    def frame_count(self, payload_bytes: ArrayLike) -> NDArray[np.int64]:
        """How many frames payloads are sent in: full ones and a rest; at least one. Any shape."""
        size = np.asarray(payload_bytes, dtype=np.int64)
        if (size < 0).any():
            raise ValueError(f"payload_bytes is {payload_bytes!r}, and has to be 0 or more")
        return np.asarray(np.maximum(-(-size // self.frame_payload_bytes), 1))

    def airtime(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Seconds on air of all the frames of payloads of any shape."""
        ahead, last = self._on_air(payload_bytes)
        return np.asarray(ahead + last)

    def duty_cycle_wait(self, airtime_s: float) -> float:
        """Seconds of silence that so much time on air asks for: ``ToA (1/d - 1)``."""
        if not 0 <= airtime_s < math.inf:
            raise ValueError(f"airtime_s is {airtime_s}, and has to be 0 or more")
        return airtime_s * (1 / self.duty_cycle - 1)

    def seconds(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """From the first symbol of payloads to their last: their frames, and the silence between them."""
        ahead, last = self._on_air(payload_bytes)
        return np.asarray(ahead / self.duty_cycle + last)

    def period(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """The shortest period, in seconds, at which payloads of a size can be sent for ever."""
        return np.asarray(self.airtime(payload_bytes) / self.duty_cycle)

    def goodput(self, payload_bytes: int) -> float:
        """Application bits a second while it is on air."""
        return 8 * payload_bytes / float(self.airtime(payload_bytes))

    def duty_cycle_goodput(self, payload_bytes: int) -> float:
        """Application bits a second in the long run."""
        return 8 * payload_bytes / float(self.period(payload_bytes))

    def transmit_energy(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Joules of the time on air of payloads' frames."""
        return np.asarray(self.volts * self.transmit_a * self.airtime(payload_bytes))

    def energy(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Joules of payloads: their time on air, and the phases around each of their frames."""
        around = math.fsum(phase.seconds * phase.amperes for phase in self.phases)
        frames = self.frame_count(payload_bytes)
        return np.asarray(self.transmit_energy(payload_bytes) + self.volts * around * frames)

    def awake_s(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Seconds that payloads keep a module from its sleep: their time on air, and the phases."""
        around = math.fsum(phase.seconds for phase in self.phases)
        return np.asarray(self.airtime(payload_bytes) + around * self.frame_count(payload_bytes))

    @property
    def idle_w(self) -> float:
        """Power asleep, in watts."""
        return self.volts * self.sleep_a

    def needs(self, payload_bytes: int) -> str:
        """A sentence on what a payload of a size takes, and how often it can be sent for ever."""
        frames = int(self.frame_count(payload_bytes))
        subject = "1 byte needs" if payload_bytes == 1 else f"{payload_bytes:,} bytes need"
        airtime_s, period_s = float(self.airtime(payload_bytes)), float(self.period(payload_bytes))
        return (
            f"{subject} {frames:,} frame{'s' * (frames > 1)} of SF{self.spreading_factor} "
            f"({self.frame_payload_bytes} bytes at most in each): {_plain(airtime_s)} s on air, which "
            f"a duty cycle of {100 * self.duty_cycle:g} % allows at most once every {_plain(period_s)} s"
        )

    def fits(self, payload_bytes: int, period_s: float) -> Fit:
        """Whether a payload of a size can be sent every so many seconds, and a sentence that says why."""
        if not 0 < period_s < math.inf:
            raise ValueError(f"period_s is {period_s}, and has to be more than 0")
        shortest = float(self.period(payload_bytes))
        reason = f"{self.needs(payload_bytes)}; asked: every {_plain(period_s)} s"
        return Fit(shortest <= period_s, shortest, reason)

    def _on_air(self, payload_bytes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Seconds on air of all frames of payloads but the last, and of that."""
        full = self.frame_count(payload_bytes) - 1
        rest = np.asarray(payload_bytes, dtype=np.int64) - full * self.frame_payload_bytes
        return full * self.time_on_air(self.frame_payload_bytes), self.time_on_air(rest)


def _plain(number: float) -> str:
    """Three digits, or all those ahead of the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
