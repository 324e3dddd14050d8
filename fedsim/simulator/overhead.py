"""What gRPC and HTTP/2 add to the messages of a stream, in bytes of its TCP connection.

A message gets gRPC's prefix and travels in HTTP/2 DATA frames, and with it go the two WINDOW_UPDATE frames,
of the stream and of the connection, for the message that came before it from the other side (RFC 9113,
sections 4.1, 6.1 and 6.9; gRPC over HTTP/2, "Length-Prefixed-Message"). Headers, which HPACK would
compress, are sent when a stream is opened and when it ends, and never between.

All of this is equal to what grpcio 1.85 sends, to the byte, for one message at a time over plain TCP. Not in
it are

- several messages in flight, which share their window updates: up to 26 bytes less for each;
- messages above 128 KiB (32 KiB, once writing has taken seconds), which are written in several goes, each of
  which may end in a frame that is not full: now and then 9 bytes more;
- messages above 512 KiB, which are granted window before all of them is there: as often as not, 26 bytes
  and a packet more in the direction of the reply;
- a PING of 17 bytes each way whenever nothing has been received for 10 s (``edge.stream.CHANNEL_OPTIONS``);
- TLS.

The packets of a link (:func:`fedsim.simulator.links.transfers`) are then equal, too, up to 100 kB and behind
a rate that a device can keep busy. At 1 Gbit/s and beyond, a packet in a hundred or so is not full.
"""

from __future__ import annotations

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.coding.frame import Handshake
from edge.rpc import STREAM, Downlink, Uplink, Welcome, from_handshake

__all__ = ["CLOSING", "opening", "reply_frame_bytes", "stream_bytes"]

Bytes = NDArray[np.int64]

_PREFIX = 5  # compressed flag and length of a message
_FRAME = 9  # header of an HTTP/2 frame
_MOST = 16_384  # bytes in a DATA frame: SETTINGS_MAX_FRAME_SIZE, which grpcio leaves at its least
_UPDATE = _FRAME + 4  # WINDOW_UPDATE
_SETTING = 6
_PREFACE = 24
# Header blocks, literals in plain as grpcio writes them; that of the request without path, authority and
# grpcio's version, but with the rest of the user agent: grpc-python-asyncio/, grpc-c/58.0.0 (linux; chttp2).
_REQUEST_BLOCK = 176
_RESPONSE_BLOCK = 78
_TRAILERS_BLOCK = 30

_VARINT = 1 << np.arange(7, 35, 7)  # from which on a number takes a further byte

#: Bytes of the end of a stream, up and down: window updates and END_STREAM; trailers.
CLOSING = (2 * _UPDATE + _FRAME, _FRAME + _TRAILERS_BLOCK)


def stream_bytes(message_bytes: ArrayLike) -> Bytes:
    """What messages are in the stream, in either direction, shaped as they are.

    Args:
        message_bytes: of each, serialised and sent once: ``frame_bytes`` of a sample, and
            :func:`reply_frame_bytes` of its reply.
    """
    data = np.asarray(message_bytes, np.int64) + _PREFIX
    return np.asarray(2 * _UPDATE + data + _FRAME * -(-data // _MOST))


def opening(server: str, handshake: Handshake, max_in_flight: int, max_payload: int) -> tuple[int, int]:
    """Bytes of a stream before its first sample, up and down: settings, headers, handshake and welcome.

    They leave in two to five packets, as it happens.

    Args:
        server: HOST:PORT that the device connects to, which is in its headers.
        handshake: what the device says.
        max_in_flight: what the server grants.
        max_payload: likewise.
    """
    asked = Uplink(handshake=from_handshake(handshake)).ByteSize()
    granted = Welcome(
        protocol=handshake.protocol,
        model=handshake.model,
        max_in_flight=max_in_flight,
        max_payload=max_payload,
    )
    told = Downlink(welcome=granted).ByteSize()
    request = _REQUEST_BLOCK + len(STREAM) + len(server) + len(grpc.__version__)
    settings_up, settings_down = _FRAME + 5 * _SETTING, _FRAME + 4 * _SETTING
    up = _PREFACE + settings_up + _FRAME + (_FRAME + request) + (_FRAME + _PREFIX + asked)
    down = _UPDATE + settings_down + _FRAME + (_FRAME + _RESPONSE_BLOCK) + int(stream_bytes(told))
    return up, down


def reply_frame_bytes(
    numbers: ArrayLike,
    labels: ArrayLike,
    *,
    queue_s: ArrayLike,
    decode_s: ArrayLike,
    tail_s: ArrayLike,
    batch: ArrayLike = 1,
    scored: bool = True,
) -> Bytes:
    """Size of the replies to samples that were answered with one label each: ``Downlink`` messages.

    A reply tells how long its sample took on the server, in microseconds, and in as few bytes as the number
    takes. It is a byte longer from 128 us on, from 16.4 ms on, and from 2.1 s on, for each of the times: no
    more than that is to be expected of times that were not quite foreseen.

    Args:
        numbers: of the samples, in the data.
        labels: that are answered.
        queue_s: until the batch of a sample began.
        decode_s: of its batch.
        tail_s: likewise.
        batch: samples in it.
        scored: whether the label has its probability with it; not so where prototypes tell the class.

    Returns:
        as its arguments broadcast.
    """
    timing = _field(_us(queue_s)) + _field(_us(decode_s)) + _field(_us(tail_s)) + _field(batch)
    label, score = 2 + _varint(np.asarray(labels, np.int64)), 6 * scored
    found: Bytes = _field(numbers) + label + score + (2 + timing)
    return found


def _us(seconds: ArrayLike) -> Bytes:
    return np.asarray(np.rint(np.asarray(seconds, np.float64) * 1e6), np.int64)


def _field(values: ArrayLike) -> Bytes:
    """Bytes of numbers with their tags; none for 0, which is left out."""
    numbers = np.asarray(values, np.int64)
    return np.where(numbers > 0, 1 + _varint(numbers), 0)


def _varint(values: Bytes) -> Bytes:
    """Bytes of numbers in groups of 7 bits, one at least."""
    return np.asarray(1 + np.searchsorted(_VARINT, values, side="right"))
