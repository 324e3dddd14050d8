"""LoRaWAN, class A: frames, the silence of the duty cycle, and a window for the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import SimulationError
from fedsim.hardware.airtime import RECEIVE_DELAYS_S, RX2_SPREADING_FACTOR, LoRa
from fedsim.simulator.lowpower.sent import Sent

__all__ = ["remarks", "sent"]

Ints = NDArray[np.int64]


def sent(lora: LoRa, up_bytes: Ints, reply_bytes: Ints, server_s: float) -> Sent:
    """Payloads and answers on the device's own channel; it always hears and is always heard.

    A payload's frames follow one another with the silence of the duty cycle between them, and behind the
    last, ahead of the next payload. The answer comes in one frame in the first window behind the last uplink
    that the server is ready for, and the device sends nothing until then. Neither the gateway's own duty
    cycle is modelled, nor that a device listens behind each of its frames, which at 1 % is a small part of
    the silence in any case.

    Raises:
        SimulationError: an answer that no window waits for, or that is too long for it.
    """
    ready = [place for place, delay_s in enumerate(RECEIVE_DELAYS_S) if server_s <= delay_s]
    if not ready:
        first_s, last_s = RECEIVE_DELAYS_S
        raise SimulationError(
            f"LoRa: the server takes {server_s:.3g} s for an answer, and a device of class A listens "
            f"{first_s:g} s and {last_s:g} s behind its uplink"
        )
    window = ready[0]
    downlink = lora if window == 0 else _second_window(lora)
    if (reply_bytes > downlink.frame_payload_bytes).any():
        raise SimulationError(
            f"LoRa: an answer has {reply_bytes.max():,} bytes, and a window of SF{downlink.spreading_factor} "
            f"has room for {downlink.frame_payload_bytes}"
        )
    reply_s = downlink.time_on_air(reply_bytes)
    frames = lora.frame_count(up_bytes)
    return Sent(
        up_s=lora.seconds(up_bytes),
        held_s=lora.period(up_bytes),
        down_s=RECEIVE_DELAYS_S[window] - server_s + reply_s,
        up_j=lora.energy(up_bytes) - lora.idle_w * lora.awake_s(up_bytes),
        down_j=lora.volts * max(lora.receive_a - lora.sleep_a, 0.0) * reply_s,
        air_s=lora.airtime(up_bytes),
        frames=frames,
        wire_bytes=up_bytes + frames * lora.header_bytes,
        reply_wire_bytes=reply_bytes + lora.header_bytes,
        answer_first=True,
    )


def remarks(lora: LoRa, payload_bytes: int, period_s: float | None) -> list[str]:
    """A sentence where payloads do not fit their duty cycle, or where it alone sets their pace.

    Args:
        lora: the devices'.
        payload_bytes: of a payload.
        period_s: from one to the next; None for devices that wait for their answers.
    """
    if period_s is None:
        return [f"LoRa sets the pace of devices that wait for their answers: {lora.needs(payload_bytes)}"]
    if not 0 < period_s < np.inf:
        return []
    fit = lora.fits(payload_bytes, period_s)
    return [] if fit.fits else [f"the payload does not fit the duty cycle of LoRa: {fit.reason}"]


def _second_window(lora: LoRa) -> LoRa:
    """The downlink of the second window."""
    return replace(lora, spreading_factor=RX2_SPREADING_FACTOR, bandwidth_hz=125e3, max_payload_bytes=None)
