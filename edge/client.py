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
from edge.rpc import sample_message
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
        on_stream: called with the record of each stream that ended, and of each that did not open.
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
        self._handshake = handshake
        self._in_flight = in_flight
        self._credentials = credentials
        self._on_stream = on_stream
        self._stream: Stream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._failure = "not connected yet"
        self._failures = 0
        self._not_before = 0.0
        #: Why the server refused this device for good; None as long as it did not.
        self.refused: str | None = None

    async def connect(self) -> bool:
        """Try once to open the stream, so that the first sample does not pay for it; whether it is open."""
        if self._usable() is None:
            await self._attempt()
        return self._usable() is not None

    async def ask(self, sample: int, payload: bytes, deadline_s: float) -> Delivery:
        """Send a sample until it is answered, refused, or ``deadline_s`` seconds have passed."""
        message = sample_message(sample, payload)
        delivery = Delivery(sent_at=time.perf_counter())
        if self._in_flight == 1:
            delivery.traffic = Traffic()
        try:
            async with asyncio.timeout(deadline_s):
                while delivery.reply is None:
                    stream = await self._connected()
                    if stream is None:
                        delivery.detail = f"refused by the server: {self.refused}"
                        return delivery
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
            if self._stream is not None and self._stream.lost is not None:
                self._lost(self._stream.lost)
                self._retire()
        return delivery

    async def close(self) -> None:
        """End the stream and wait until the server has ended it, too. No sample may be on its way.

        Raises:
            Exception: what ``on_stream`` raised.
        """
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self._retire()
        if self._closing:
            await asyncio.wait(self._closing)
        if self._error is not None:
            raise self._error

    def _usable(self) -> Stream | None:
        return self._stream if self._stream is not None and self._stream.lost is None else None

    async def _connected(self) -> Stream | None:
        """A stream that can be used, waited for as long as it takes; None if the server refused for good."""
        while (stream := self._usable()) is None and self.refused is None:
            await self._attempt()
        return stream

    async def _attempt(self) -> None:
        """Wait for one attempt to open a stream. It goes on when a sample's deadline ends the wait."""
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        self._retire()
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
        stream = Stream(self._server, self._credentials, self._in_flight)
        try:
            await stream.open(self._handshake)
        except LostError as error:
            self._lost(str(error))
        except RefusedError as error:
            self.refused = str(error)
        else:
            self._stream = stream
            self._failure = "the server did not answer"
        finally:
            if stream.lost is not None:
                self._close(stream)

    def _retire(self) -> None:
        if self._stream is not None:
            self._close(self._stream)
            self._stream = None

    def _close(self, stream: Stream) -> None:
        """Close a stream in the background: a sample whose deadline passes must not cut that short."""
        task = asyncio.create_task(self._record(stream))
        self._closing.add(task)
        task.add_done_callback(self._closed)

    async def _record(self, stream: Stream) -> None:
        self._on_stream(await stream.close())

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            self._error = self._error or task.exception()

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
