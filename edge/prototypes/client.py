"""A device's calls about prototypes, repeated until they are answered, refused, or out of time.

A push keeps its id when it is repeated, so that it counts once although the reply to it was lost.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from edge.coding.frame import Handshake
from edge.prototypes.codec import StatisticsCodec
from edge.prototypes.limits import DEFAULT_BITS, most_rows
from edge.prototypes.statistics import ClassStatistics, StatisticsError
from edge.rpc import (
    GET_PROTOTYPES,
    PUSH_STATISTICS,
    PrototypesReply,
    PrototypesRequest,
    StatisticsReply,
    from_handshake,
    statistics_message,
)
from edge.stream import CHANNEL_OPTIONS, LostError, failure

__all__ = ["Pushed", "get_prototypes", "push_statistics"]

_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push.

    Attributes:
        counted: with the last attempt; False where the server had counted it before.
        classes: that the server knows.
        samples: that it has counted.
        ideal_bits: information in the statistics.
        payload_bytes: of the statistics.
        frame_bytes: of the message, over all attempts.
        attempts: how often it was sent.
    """

    counted: bool
    classes: int
    samples: int
    ideal_bits: float
    payload_bytes: int
    frame_bytes: int
    attempts: int


async def push_statistics(
    server: str,
    handshake: Handshake,
    push: bytes,
    statistics: ClassStatistics,
    *,
    bits: int = DEFAULT_BITS,
    deadline_s: float = 10.0,
    credentials: grpc.ChannelCredentials | None = None,
) -> Pushed:
    """Add the statistics of a device's own samples to those of a tail server.

    Args:
        server: HOST:PORT.
        handshake: of the model that made the features.
        push: id of this push, 16 bytes; one that the server knows counts no second time.
        statistics: never with what a server gave out.
        bits: of a value on the way, 1 to 16, 32 or 64. Counts are exact at any.
        deadline_s: for all attempts together.
        credentials: for TLS; plain TCP without.

    Raises:
        ValueError: other bits, statistics of another dimension, or of more rows than a server has room for.
        RefusedError: by the server; trying again cannot help.
        LostError: no reply within the deadline. The push may have been counted, so repeat it as it is.
    """
    (dimension,) = handshake.feature_shape
    encoded = StatisticsCodec(dimension, bits, most_rows(dimension)).encode(statistics)
    message = statistics_message(handshake, push, bits, encoded.payload)
    call = _Call(server, PUSH_STATISTICS, credentials, deadline_s)
    raw = await call.answer(message)
    try:
        reply = StatisticsReply.FromString(raw)
    except DecodeError:
        raise LostError("the server sent something that is no reply") from None
    return Pushed(
        counted=reply.counted,
        classes=reply.classes,
        samples=reply.samples,
        ideal_bits=encoded.ideal_bits,
        payload_bytes=len(encoded.payload),
        frame_bytes=call.attempts * len(message),
        attempts=call.attempts,
    )


async def get_prototypes(
    server: str,
    handshake: Handshake,
    *,
    bits: int = DEFAULT_BITS,
    deadline_s: float = 10.0,
    credentials: grpc.ChannelCredentials | None = None,
) -> ClassStatistics:
    """All class statistics that a tail server has; their means are its prototypes.

    Args:
        server: HOST:PORT.
        handshake: of the model that made the features.
        bits: of a value on the way, 1 to 16, 32 or 64.
        deadline_s: for all attempts together.
        credentials: for TLS; plain TCP without.

    Raises:
        ValueError: other bits.
        RefusedError: by the server; trying again cannot help.
        LostError: no reply that could be read within the deadline.
    """
    (dimension,) = handshake.feature_shape
    codec = StatisticsCodec(dimension, bits)
    request = PrototypesRequest(handshake=from_handshake(handshake), bits=bits).SerializeToString()
    raw = await _Call(server, GET_PROTOTYPES, credentials, deadline_s).answer(request)
    try:
        return codec.decode(PrototypesReply.FromString(raw).statistics)
    except (DecodeError, StatisticsError) as error:
        raise LostError(f"the server sent something that is no statistics: {error}") from None


class _Call:
    """One unary call, over a connection of its own."""

    def __init__(
        self, server: str, method: str, credentials: grpc.ChannelCredentials | None, deadline_s: float
    ) -> None:
        options = (
            *CHANNEL_OPTIONS,
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", round(_FIRST_BACKOFF_S * 1e3)),
            ("grpc.max_reconnect_backoff_ms", round(_LONGEST_BACKOFF_S * 1e3)),
        )
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(server, options=options)
        else:
            self._channel = grpc.aio.secure_channel(server, credentials, options=options)
        self._method = method
        self._deadline_s = deadline_s
        #: How often the message was sent.
        self.attempts = 0

    async def answer(self, message: bytes) -> bytes:
        """The reply to a message, sent as often as it takes."""
        why = "not connected yet"
        try:
            async with self._channel, asyncio.timeout(self._deadline_s):
                ask = self._channel.unary_unary(self._method)
                while True:
                    self.attempts += 1
                    try:
                        return bytes(await ask(message))
                    except grpc.aio.AioRpcError as error:
                        failed = failure(error.code(), error.details())
                    if not isinstance(failed, LostError):
                        raise failed
                    why = str(failed)
                    backoff = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** min(self.attempts, 16))
                    await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
        except TimeoutError:
            raise LostError(f"no answer within {self._deadline_s:g} s: {why}") from None
