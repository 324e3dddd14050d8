"""A device's end of the stream to a tail server: sends samples, survives the server's absence.

Every sample has a deadline. Until then a stream that was lost is opened again, with exponential
backoff and jitter, and what it left unanswered is sent again; the server keeps no state, so a sample
that it has seen before is answered all the same. What the server refuses for good is not retried.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import grpc

from edge.coding.frame import Handshake
from edge.rpc import Uplink, from_handshake, sample_message
from edge.sockets import Traffic
from edge.stream import Delivery, LostError, RefusedError, Stream, StreamRecord

__all__ = ["TailClient"]

_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 2.0


class TailClient:
    """Asks one tail server about samples of one model, over one stream at a time.

    Args:
        server: HOST:PORT.
        handshake: what this device has; the server compares it with what it has.
        in_flight: samples that may await an answer at once. The server may allow fewer.
        credentials: for TLS; plain TCP without.
        on_stream: called with the record of each stream that ended.
    """

    def __init__(
        self,
        server: str,
        handshake: Handshake,
        *,
        in_flight: int = 1,
        credentials: grpc.ChannelCredentials | None = None,
        on_stream: Callable[[StreamRecord], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._hello = Uplink(handshake=from_handshake(handshake)).SerializeToString()
        self._in_flight = in_flight
        self._credentials = credentials
        self._on_stream = on_stream
        self._stream: Stream | None = None
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._refused: RefusedError | None = None
        self._failure = "not connected yet"
        self._failures = 0
        self._not_before = 0.0

    async def connect(self) -> bool:
        """Try once to open the stream, so that the first sample does not pay for it.

        Raises:
            RefusedError: the server refused this device for good.
        """
        try:
            async with self._opening:
                await self._open()
        except LostError:
            return False
        return True

    async def ask(self, sample: int, payload: bytes, deadline_s: float) -> Delivery:
        """Send a sample until it is answered or ``deadline_s`` seconds have passed.

        Raises:
            RefusedError: the server refused this device for good.
        """
        message = sample_message(sample, payload)
        delivery = Delivery(sent_at=time.perf_counter())
        if self._in_flight == 1:
            delivery.traffic = Traffic()
        try:
            async with asyncio.timeout(deadline_s):
                while delivery.reply is None:
                    stream = await self._connected()
                    limit = stream.welcome.max_payload
                    if len(payload) > limit:
                        delivery.detail = f"payload of {len(payload)} bytes, the server takes at most {limit}"
                        return delivery
                    try:
                        await stream.ask(sample, message, delivery)
                    except LostError as error:
                        self._lost(str(error))
        except TimeoutError:
            delivery.detail = f"no answer within {deadline_s:g} s: {self._failure}"
        return delivery

    async def close(self) -> None:
        """End the stream and wait until the server has ended it, too."""
        async with self._opening:
            self._retire()
        await asyncio.gather(*self._closing)

    async def _connected(self) -> Stream:
        async with self._opening:
            while True:
                if self._stream is not None and self._stream.lost is None:
                    return self._stream
                await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
                try:
                    return await self._open()
                except LostError:
                    continue

    async def _open(self) -> Stream:
        if self._refused is not None:
            raise self._refused
        self._retire()
        try:
            stream = Stream(self._server, self._credentials, self._in_flight)
            await stream.open(self._hello)
        except LostError as error:
            self._lost(str(error))
            raise
        except RefusedError as error:
            self._refused = error
            raise
        self._stream = stream
        self._failure = "the server did not answer"
        return stream

    def _retire(self) -> None:
        """Close the stream in the background: a sample whose deadline passes must not cut that short."""
        if self._stream is not None:
            task = asyncio.create_task(self._record(self._stream))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._stream = None

    async def _record(self, stream: Stream) -> None:
        self._on_stream(await stream.close())

    def _lost(self, why: str) -> None:
        """Remember why, and let the next attempt wait: longer each time nothing was answered between."""
        self._failure = why
        now = time.monotonic()
        if now < self._not_before:
            return  # another sample has reported the same loss
        if self._stream is not None and self._stream.answered:
            self._failures = 0
        backoff = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._not_before = now + backoff * random.uniform(0.5, 1.0)
