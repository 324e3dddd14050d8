"""What a radio makes of payloads, whenever they are sent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sent"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sent:
    """Payloads and their answers on a channel that is free. Arrays [samples].

    Args:
        up_s: from when a payload begins until it has arrived.
        held_s: from when it begins until the next may.
        down_s: from when the server has its answer until the device has it.
        up_j: joules to send, above what the radio draws all the time.
        down_j: the same, to receive.
        air_s: seconds on air, of the payload.
        frames: of the payload.
        wire_bytes: of these.
        reply_wire_bytes: of those of the answer.
        answer_first: whether the next has to wait for the answer, too.
    """

    up_s: Floats
    held_s: Floats
    down_s: Floats
    up_j: Floats
    down_j: Floats
    air_s: Floats
    frames: Ints
    wire_bytes: Ints
    reply_wire_bytes: Ints
    answer_first: bool
