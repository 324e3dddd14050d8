"""Bluetooth Low Energy: a payload in packets, sent when the connection's next event comes."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Ble"]


@dataclass(frozen=True, slots=True)
class Ble:
    """A connection on an ideal channel, as of the Bluetooth Core Specification 5 (volume 6, part B).

    Each packet is answered by an empty one; packets follow one another within a connection event.

    Args:
        interval_s: from one connection event to the next (7.5 ms to 4 s).
        volts: of the supply.
        transmit_a: current while it sends.
        receive_a: current while it receives.
        payload_bytes: of the application in one packet; 244 fill the longest PDU, of 251 bytes.
        overhead_bytes: of a packet: preamble 1, access address 4, header 2, L2CAP 4, ATT 3, MIC 4, CRC 3.
        reply_bytes: of an empty packet.
        bits_per_s: of the physical layer.
        spacing_s: between two packets.
        packets_per_event: most in one event; None for as many as there is time for.

    Raises:
        ValueError: a value out of its range, or an interval that is too short for a packet.
    """

    interval_s: float
    volts: float
    transmit_a: float
    receive_a: float
    payload_bytes: int = 244
    overhead_bytes: int = 21
    reply_bytes: int = 10
    bits_per_s: float = 1e6
    spacing_s: float = 150e-6
    packets_per_event: int | None = None

    def __post_init__(self) -> None:
        for key in ("interval_s", "volts", "payload_bytes", "bits_per_s", "packets_per_event"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{key} is {value}, and has to be more than 0")
        for key in ("transmit_a", "receive_a", "overhead_bytes", "reply_bytes", "spacing_s"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ValueError(f"{key} is {getattr(self, key)}, and has to be 0 or more")
        if self._exchange_s(self.payload_bytes) > self.interval_s:
            raise ValueError(
                f"interval_s is {self.interval_s}, and a packet of {self.payload_bytes} bytes and its answer "
                f"take {self._exchange_s(self.payload_bytes):.6f} s"
            )

    @property
    def event_packets(self) -> int:
        """Packets of full length in one connection event."""
        # A hair more, so that an interval of a whole number of packets holds them all.
        fit = int(self.interval_s / self._exchange_s(self.payload_bytes) * (1 + 1e-12))
        return fit if self.packets_per_event is None else min(fit, self.packets_per_event)

    @property
    def goodput(self) -> float:
        """Application bits a second of a long transfer."""
        return 8 * self.payload_bytes * self.event_packets / self.interval_s

    def packets(self, payload_bytes: int) -> int:
        """Packets that a payload is sent in."""
        if payload_bytes < 0:
            raise ValueError(f"payload_bytes is {payload_bytes}, and has to be 0 or more")
        return max(math.ceil(payload_bytes / self.payload_bytes), 1)

    def seconds(self, payload_bytes: int, wait: float = 0.5) -> float:
        """From the wish to send a payload until its last packet is answered.

        Args:
            payload_bytes: of the application.
            wait: for the next connection event: the part of the interval that this takes, 0 to 1, uniform
                over payloads; at 0.5 the result is the mean.
        """
        if not 0 <= wait <= 1:
            raise ValueError(f"wait is {wait}, allowed is 0 to 1")
        packets = self.packets(payload_bytes)
        events = (packets - 1) // self.event_packets  # full ones ahead of the last
        full = packets - 1 - events * self.event_packets
        rest = payload_bytes - (packets - 1) * self.payload_bytes
        last = full * self._exchange_s(self.payload_bytes) + self._exchange_s(rest)
        return (wait + events) * self.interval_s + last

    def energy(self, payload_bytes: int) -> float:
        """Joules of the radio to send a payload and to receive the answers, without its connection idling."""
        packets = self.packets(payload_bytes)
        sent = 8 * (payload_bytes + packets * self.overhead_bytes) / self.bits_per_s
        received = 8 * packets * self.reply_bytes / self.bits_per_s
        return self.volts * (self.transmit_a * sent + self.receive_a * received)

    def _exchange_s(self, payload_bytes: int) -> float:
        octets = payload_bytes + self.overhead_bytes + self.reply_bytes
        return 8 * octets / self.bits_per_s + 2 * self.spacing_s
