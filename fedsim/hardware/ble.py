"""Bluetooth Low Energy: a payload in packets, sent when the connection's next event comes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    @property
    def idle_w(self) -> float:
        """Watts of a connection without data: an empty packet from the peer and one in answer, each interval.

        Of the radio alone while it sends and receives; waking for the event is not in it.
        """
        return self._empty_j / self.interval_s

    def packets(self, payload_bytes: ArrayLike) -> NDArray[np.int64]:
        """Packets that payloads of any shape are sent in; at least one."""
        size = np.asarray(payload_bytes, dtype=np.int64)
        if (size < 0).any():
            raise ValueError(f"payload_bytes is {payload_bytes!r}, and has to be 0 or more")
        return np.asarray(np.maximum(-(-size // self.payload_bytes), 1))

    def events(self, payload_bytes: ArrayLike) -> NDArray[np.int64]:
        """Connection events that payloads take."""
        return np.asarray((self.packets(payload_bytes) - 1) // self.event_packets + 1)

    def seconds(self, payload_bytes: ArrayLike, wait: ArrayLike = 0.5) -> NDArray[np.float64]:
        """From the wish to send payloads until their last packets are answered.

        Args:
            payload_bytes: of the application, any shape.
            wait: for the next connection event: the part of the interval that this takes, 0 to 1, uniform
                over payloads; at 0.5 the result is the mean.
        """
        part = np.asarray(wait, dtype=np.float64)
        if not ((part >= 0) & (part <= 1)).all():
            raise ValueError(f"wait is {wait!r}, allowed is 0 to 1")
        packets = self.packets(payload_bytes)
        events = self.events(payload_bytes) - 1  # full ones ahead of the last
        full = packets - 1 - events * self.event_packets
        rest = np.asarray(payload_bytes) - (packets - 1) * self.payload_bytes
        last = full * self._exchange_s(self.payload_bytes) + self._exchange_s(rest)
        return np.asarray((part + events) * self.interval_s + last)

    def energy(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Joules of the radio to send payloads and to receive the answers, without its connection idling."""
        return self._joules(payload_bytes, self.transmit_a, self.receive_a)

    def receive_energy(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Joules of the radio to receive payloads and to answer each packet, likewise."""
        return self._joules(payload_bytes, self.receive_a, self.transmit_a)

    def idle_energy(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        """Joules that the connection would have used without data in the events that payloads take."""
        return np.asarray(self._empty_j * self.events(payload_bytes))

    @property
    def _empty_j(self) -> float:
        """Joules of an empty packet each way."""
        return self.volts * (self.transmit_a + self.receive_a) * 8 * self.reply_bytes / self.bits_per_s

    def _joules(self, payload_bytes: ArrayLike, payload_a: float, answer_a: float) -> NDArray[np.float64]:
        packets = self.packets(payload_bytes)
        payload_s = 8 * (np.asarray(payload_bytes) + packets * self.overhead_bytes) / self.bits_per_s
        answer_s = 8 * packets * self.reply_bytes / self.bits_per_s
        return np.asarray(self.volts * (payload_a * payload_s + answer_a * answer_s))

    def _exchange_s(self, payload_bytes: ArrayLike) -> NDArray[np.float64]:
        octets = np.asarray(payload_bytes) + self.overhead_bytes + self.reply_bytes
        return np.asarray(8 * octets / self.bits_per_s + 2 * self.spacing_s)
