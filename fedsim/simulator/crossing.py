"""What the messages of one device and their answers take on its link, whichever kind of link that is.

A link with a rate carries TCP and, in it, gRPC: its bits go through a cell that devices may share. LoRa and
BLE have no rate: their radios say how long a message takes, and carry it as it is, for a gateway to hand on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edge.link import LinkSpec
from fedsim.hardware.airtime import LoRa
from fedsim.hardware.ble import Ble
from fedsim.hardware.models import AnyRadio
from fedsim.hardware.radio import RadioModel
from fedsim.hardware.transport import Transport
from fedsim.simulator.fleet import ALWAYS_ON, Work
from fedsim.simulator.links import transfers
from fedsim.simulator.lowpower import carried, metered
from fedsim.simulator.overhead import stream_bytes

__all__ = ["Crossing", "asleep", "crossing", "shortest", "without_rate"]

Bytes: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Crossing:
    """What a device is to the event loop, but for its processor.

    Args:
        work: with what its messages are to the link.
        radio: that is charged for them.
        wire_bytes: of its messages with all headers, [samples].
        reply_wire_bytes: the same of the answers.
    """

    work: Work
    radio: RadioModel
    wire_bytes: Bytes
    reply_wire_bytes: Bytes


def without_rate(radio: AnyRadio | None) -> TypeGuard[LoRa | Ble]:
    """Whether the radio itself says how long messages take; their cell is to be one that takes no time."""
    return isinstance(radio, LoRa | Ble)


def crossing(
    work: Work,
    spec: LinkSpec,
    radio: AnyRadio | None,
    messages: Bytes,
    replies: Bytes,
    generator: np.random.Generator,
    *,
    server_s: float,
    in_flight: int,
    deadline_s: float = np.inf,
    software: Transport = Transport(),  # noqa: B008  immutable
) -> Crossing:
    """Put messages and answers on a link.

    Args:
        work: samples, without messages.
        spec: the link.
        radio: the device's end of it; None where nothing is to be said of its energy.
        messages: bytes of each, as they are handed to gRPC, [samples]; 0 where nothing is sent.
        replies: the same of the answers.
        generator: draws losses, jitter and waits.
        server_s: what an answer takes of the server, where it is alone there.
        in_flight: most samples without an answer.
        deadline_s: that the device waits for one, from when a sample is computed.
        software: what gRPC takes at both ends, half of it on the way there and half on the way back. LoRa and
            BLE carry messages without it.

    Raises:
        SimulationError: an answer that the radio cannot receive.
    """
    if isinstance(radio, LoRa | Ble):
        there_s, back_s = spec.up.delay_s, spec.down.delay_s  # behind the gateway
        sent = carried(
            radio,
            work,
            messages,
            replies,
            generator,
            server_s=there_s + server_s + back_s,
            in_flight=in_flight,
            deadline_s=deadline_s,
        )
        put = sent.put_on(work)
        put = replace(put, up_delay_s=put.up_delay_s + there_s, down_delay_s=put.down_delay_s + back_s)
        return Crossing(put, sent.radio, sent.wire_bytes, sent.reply_wire_bytes)
    streamed = np.where(messages > 0, stream_bytes(messages), 0)
    up = transfers(spec, spec.up, streamed, generator)
    down = transfers(spec, spec.down, stream_bytes(replies), generator)
    half_s = 0.5 * software.seconds(messages)
    put = replace(
        work,
        up_bits=up.bits,
        down_bits=down.bits,
        up_delay_s=up.delay_s + half_s,
        down_delay_s=down.delay_s + half_s,
    )
    return Crossing(put, ALWAYS_ON if radio is None else radio, up.wire_bytes, down.wire_bytes)


def shortest(spec: LinkSpec, radio: AnyRadio | None, message_bytes: int) -> tuple[float, float]:
    """What a message and its answer take at least, and for how long no other may be on its way [s]."""
    delay_s = sum(way.delay_s - way.jitter_s for way in (spec.up, spec.down))
    if isinstance(radio, LoRa):
        return float(radio.seconds(message_bytes)) + delay_s, float(radio.period(message_bytes))
    if isinstance(radio, Ble):
        on_air_s = float(radio.seconds(message_bytes, 0.0))
        return on_air_s + delay_s, on_air_s
    up_s = 0.0
    if spec.up.rate_bps is not None:
        up_s = 8 * spec.wire_bytes(int(stream_bytes(message_bytes))) / spec.up.rate_bps
    return up_s + delay_s, up_s


def asleep(radio: AnyRadio | None) -> RadioModel:
    """A radio that is not used: it sleeps all the time."""
    if radio is None:
        return ALWAYS_ON
    if isinstance(radio, RadioModel):
        return replace(radio, promotion_s=0.0, tail=())
    return metered(radio.idle_w)
