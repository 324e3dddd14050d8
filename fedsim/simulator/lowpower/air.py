"""What payloads of one device take on a link without a rate, in the terms of the event loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedsim.errors import SimulationError
from fedsim.hardware.airtime import LoRa
from fedsim.hardware.ble import Ble
from fedsim.hardware.radio import RadioModel
from fedsim.simulator.fleet import Work
from fedsim.simulator.lowpower import ble, lora
from fedsim.simulator.lowpower.channel import waits
from fedsim.simulator.lowpower.sent import Sent

__all__ = ["Carried", "carried", "metered", "remarks"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Carried:
    """What becomes of a device's payloads and of their answers, arrays [samples].

    Args:
        up_delay_s: from when a payload is computed until it has arrived; until it may begin, and on its way.
        down_delay_s: from when it is served until its answer is there.
        up_j: joules of the radio to send it, above what the radio draws all the time.
        down_j: the same, to receive the answer.
        air_s: seconds that the payload's frames or packets are on air.
        frames: frames or packets that it is sent in.
        wire_bytes: of these, headers included.
        reply_wire_bytes: the same of the answer.
        radio: what is charged by: see :func:`metered`.
    """

    up_delay_s: Floats
    down_delay_s: Floats
    up_j: Floats
    down_j: Floats
    air_s: Floats
    frames: Ints
    wire_bytes: Ints
    reply_wire_bytes: Ints
    radio: RadioModel

    @property
    def joules(self) -> Floats:
        """Of a payload and its answer, [samples]."""
        return self.up_j + self.down_j

    def put_on(self, work: Work) -> Work:
        """The work with these delays, for a device with :attr:`radio`; its bits are joules."""
        return replace(
            work,
            up_bits=self.up_j,
            up_delay_s=self.up_delay_s,
            down_bits=self.down_j,
            down_delay_s=self.down_delay_s,
        )


def metered(idle_w: float) -> RadioModel:
    """A radio that draws ``idle_w`` all the time, and besides it a joule for each bit, either way.

    So that the event loop charges exactly what a payload costs, when it is sent: of a device with this
    radio, the "bits" of its work are joules (:meth:`Carried.put_on`). It has nothing to wake, and no tail.
    Its cells are to take no time (an infinite rate), and are not for a round's true bits.
    """
    return RadioModel(idle_w, 0.0, 0.0, idle_w, 1.0, 1.0)


def carried(
    radio: LoRa | Ble,
    work: Work,
    up_bytes: ArrayLike,
    reply_bytes: ArrayLike,
    generator: np.random.Generator,
    *,
    server_s: float = 0.0,
    in_flight: int = 1,
    deadline_s: float = np.inf,
) -> Carried:
    """Carry the payloads of one device over a link that it has to itself.

    When payloads wait for each other depends on when they are ready, which depends on the answers to those
    before: the times here are those of the event loop where the server takes ``server_s`` for each, and no
    battery runs empty. What a queue there adds comes on top, and a payload never begins earlier than it may.

    Args:
        radio: the device's.
        work: its samples: when they are due, and what they take of the processor. The rest is not looked at.
        up_bytes: of each payload, as the radio is handed it, [samples].
        reply_bytes: of each answer, [samples] or one for all.
        generator: the device's own; BLE draws the waits for connection events.
        server_s: from the arrival of a payload until its answer goes down.
        in_flight: most samples without an answer.
        deadline_s: that the device waits for one, from when a sample is computed.

    Raises:
        SimulationError: arrays that do not fit together, a number out of bounds, or an answer that the radio
            cannot receive.
    """
    at_s = np.asarray(work.at_s, np.float64)
    up = _sizes("up_bytes", up_bytes, at_s.shape)
    down = _sizes("reply_bytes", reply_bytes, at_s.shape)
    if not 0 <= server_s < np.inf:
        raise SimulationError(f"server_s is {server_s!r}, allowed is a number, 0 and more")
    if in_flight < 1:
        raise SimulationError(f"in_flight is {in_flight}, allowed is 1 and more")
    sent: Sent
    if isinstance(radio, LoRa):
        sent = lora.sent(radio, up, down, server_s)
    else:
        sent = ble.sent(radio, up, down, generator)
    compute_s = np.broadcast_to(np.asarray(work.compute_s, np.float64), at_s.shape)
    answered_s = sent.up_s + server_s + sent.down_s
    held_s = np.maximum(sent.held_s, answered_s) if sent.answer_first else sent.held_s
    waited = waits(at_s, work.paused, compute_s, held_s, answered_s, in_flight, deadline_s)
    return Carried(
        up_delay_s=waited + sent.up_s,
        down_delay_s=sent.down_s,
        up_j=sent.up_j,
        down_j=sent.down_j,
        air_s=sent.air_s,
        frames=sent.frames,
        wire_bytes=sent.wire_bytes,
        reply_wire_bytes=sent.reply_wire_bytes,
        radio=metered(radio.idle_w),
    )


def remarks(radio: LoRa | Ble, up_bytes: ArrayLike, period_s: float | None) -> list[str]:
    """What is to be said of the payloads of devices on such a link; nothing, where they fit it.

    Args:
        radio: the devices'.
        up_bytes: of payloads, [samples].
        period_s: from one to the next of a device in the mean; None for devices that wait for their answers.
    """
    size = np.asarray(up_bytes, np.float64)
    if not isinstance(radio, LoRa) or not size.size:
        return []
    return lora.remarks(radio, int(np.ceil(size.mean())), period_s)


def _sizes(name: str, values: ArrayLike, shape: tuple[int, ...]) -> Ints:
    size = np.asarray(values)
    if size.shape not in ((), shape):
        allowed = f"allowed are a number and {list(shape)}"
        raise SimulationError(f"{name} has the shape {list(size.shape)}; {allowed}")
    if (size < 0).any() or (size != np.floor(size)).any():
        raise SimulationError(f"{name}: allowed are whole numbers, 0 and more")
    return np.broadcast_to(size.astype(np.int64), shape)
