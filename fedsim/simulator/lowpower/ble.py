"""Bluetooth Low Energy: a wait for the next connection event each way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedsim.hardware.ble import Ble
from fedsim.simulator.lowpower.sent import Sent

__all__ = ["sent"]

Ints = NDArray[np.int64]


def sent(ble: Ble, up_bytes: Ints, reply_bytes: Ints, generator: np.random.Generator) -> Sent:
    """Payloads and answers on a connection of the device's own.

    Each waits for the next connection event, uniformly within the interval: device and peer have clocks of
    their own. A payload waits for those ahead of it, and answers for nothing. In its events the data's
    packets take the place of the empty ones that are there in any case.
    """
    up_wait, down_wait = generator.random((2, len(up_bytes)))
    packets = ble.packets(up_bytes)
    up_s = ble.seconds(up_bytes, up_wait)
    return Sent(
        up_s=up_s,
        held_s=up_s,
        down_s=ble.seconds(reply_bytes, down_wait),
        up_j=np.maximum(ble.energy(up_bytes) - ble.idle_energy(up_bytes), 0.0),
        down_j=np.maximum(ble.receive_energy(reply_bytes) - ble.idle_energy(reply_bytes), 0.0),
        air_s=8 * (up_bytes + packets * ble.overhead_bytes) / ble.bits_per_s,
        frames=packets,
        wire_bytes=up_bytes + packets * ble.overhead_bytes,
        reply_wire_bytes=reply_bytes + ble.packets(reply_bytes) * ble.overhead_bytes,
        answer_first=False,
    )
