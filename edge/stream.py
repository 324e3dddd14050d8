"""One stream from a device to a tail server: opened, used until it is lost or closed, never reused.

A stream has a connection of its own, so that the bytes of that connection are the stream's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from edge.coding.frame import Handshake
from edge.rpc import STREAM, Downlink, Uplink, Welcome, from_handshake
from edge.sockets import SocketCounter, Traffic, connected_sockets

__all__ = ["CHANNEL_OPTIONS", "Delivery", "LostError", "RefusedError", "Stream", "StreamRecord", "failure"]

#: Of every connection that a device opens.
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # one connection for each stream, so that its bytes are its own
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.http2.bdp_probe", 0),  # replies are small; pings to size their window would cost more
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 20_000),  # on a thin link a reply waits behind what is being sent
    ("grpc.http2.ping_timeout_ms", 20_000),  # by default a minute, and the longer of the two counts
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
)
#: Statuses that trying again cannot change.
_FINAL = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
_OPENING_S = 5.0  # for one attempt to connect and shake hands
_CLOSING_S = 2.0


class RefusedError(Exception):
    """Trying again cannot help: another model, other tables, another protocol, or no tail server at all."""


class LostError(Exception):
    """The stream ended; trying again may help."""


@dataclass(slots=True)
class Delivery:
    """What became of one sample. Clock readings are of ``time.perf_counter``.

    Attributes:
        sent_at: when it was handed over for sending, the first time.
        received_at: when its reply came.
        reply: the server's reply; None if there was none.
        detail: why there was none.
        attempts: how often it was sent.
        frame_bytes: size of its messages, over all attempts.
        traffic: what crossed the socket from just before the sample to just after its reply, over all
            attempts; None where it cannot be known: other samples in flight, no counters.
    """

    sent_at: float
    received_at: float = 0.0
    reply: Downlink | None = None
    detail: str | None = None
    attempts: int = 0
    frame_bytes: int = 0
    traffic: Traffic | None = None


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One stream, or one attempt to open one, from its opening to its end.

    ``traffic`` is all that its connection carried: TCP and HTTP/2 set-up, handshake, samples,
    acknowledgements. None where the kernel's counters cannot be read, or there was no connection.
    """

    opened_at: float  #: Unix time
    duration_s: float
    traffic: Traffic | None
    detail: str | None  #: why it ended, if not on the device's wish


@dataclass(slots=True, eq=False)
class _Sample:
    """A sample on its way; its future is done as soon as nobody waits for it any more."""

    message: bytes
    delivery: Delivery
    reply: asyncio.Future[tuple[Downlink, float, Traffic | None]]


class Stream:
    """One connection with one stream on it, from its handshake until it is lost or closed."""

    welcome: Welcome

    def __init__(self, server: str, credentials: grpc.ChannelCredentials | None, in_flight: int) -> None:
        self._server = server
        self._exclusive = in_flight == 1
        self._in_flight = in_flight
        self._credentials = credentials
        self._outgoing: asyncio.Queue[_Sample] = asyncio.Queue()
        self._pending: dict[int, _Sample] = {}
        self._channel: grpc.aio.Channel | None = None
        self._counter: SocketCounter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._opened_at = time.time()
        self._began = time.perf_counter()
        #: Why it can no longer be used; None while it can.
        self.lost: str | None = None
        #: Samples answered.
        self.answered = 0

    async def open(self, handshake: Handshake) -> None:
        """Connect and shake hands. Whatever comes of it, :meth:`close` has to follow.

        Raises:
            LostError: not reachable, or it ended.
            RefusedError: a refusal that trying again cannot change.
        """
        peers = await _resolved(self._server)
        earlier = _inodes(peers)
        try:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._server, options=CHANNEL_OPTIONS)
            else:
                self._channel = grpc.aio.secure_channel(
                    self._server, self._credentials, options=CHANNEL_OPTIONS
                )
            self._call = self._channel.stream_stream(STREAM)()
            async with asyncio.timeout(_OPENING_S):
                self.welcome = await self._shake_hands(handshake)
        except TimeoutError:
            self.lost = f"{self._server} did not answer the handshake within {_OPENING_S:g} s"
            raise LostError(self.lost) from None
        except asyncio.CancelledError:
            self.lost = "given up before the handshake was answered"
            raise
        except (LostError, RefusedError) as error:
            self.lost = str(error)
            raise
        finally:
            self._counter = _newest(peers, earlier)
        self._slots = asyncio.Semaphore(min(self._in_flight, max(1, self.welcome.max_in_flight)))
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]

    async def _shake_hands(self, handshake: Handshake) -> Welcome:
        await _written(self._call, Uplink(handshake=from_handshake(handshake)).SerializeToString())
        reply = _downlink(await _read(self._call))
        if not reply.HasField("welcome"):
            raise RefusedError(f"{self._server} answered the handshake with something that is no welcome")
        ours, theirs = handshake.protocol, reply.welcome.protocol
        if theirs != ours:
            raise RefusedError(
                f"{self._server} speaks another protocol version: expected {ours}, got {theirs}"
            )
        if reply.welcome.model != handshake.model:
            text = f"expected {handshake.model!r}, got {reply.welcome.model[:64]!r}"
            raise RefusedError(f"{self._server} serves another model: {text}")
        return reply.welcome

    async def ask(self, sample: int, message: bytes, delivery: Delivery) -> None:
        """Send one sample and enter its reply into ``delivery``.

        Cancelling this before the reply drops a message that has not been sent. When nobody waits for
        any reply that the server still owes, the stream counts as lost: it is no use to compute them,
        and their bytes would be taken for those of the next sample.

        Raises:
            LostError: the stream ended before the reply.
        """
        async with self._slots:
            if self.lost is not None:
                raise LostError(self.lost)
            waiting = _Sample(message, delivery, asyncio.get_running_loop().create_future())
            sent_before = delivery.attempts
            self._pending[sample] = waiting
            before = self._traffic()
            self._outgoing.put_nowait(waiting)
            after: Traffic | None = None
            try:
                delivery.reply, delivery.received_at, after = await waiting.reply
            except LostError:
                after = self._traffic()
                raise
            except asyncio.CancelledError:
                after = self._traffic()
                if delivery.attempts > sent_before and len(self._pending) == 1:
                    self._lose("the server did not answer in time")
                raise
            finally:
                del self._pending[sample]
                known = delivery.traffic is not None and before is not None and after is not None
                delivery.traffic = delivery.traffic + (after - before) if known else None  # type: ignore[operator]

    async def close(self) -> StreamRecord:
        """End the stream, whatever state it is in; its record."""
        detail = self.lost
        if detail is None:
            try:
                async with asyncio.timeout(_CLOSING_S):
                    await self._call.done_writing()
                    await asyncio.wait(self._tasks[1:])
            except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
                pass  # the server is free to vanish now
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()  # they hold this stream, and gRPC keeps a connection until nobody holds it
        traffic = None if self._counter is None else self._counter.read()
        if self._channel is not None:
            await self._channel.close()
        if self._counter is not None:
            self._counter.close()
        return StreamRecord(self._opened_at, time.perf_counter() - self._began, traffic, detail)

    def _traffic(self) -> Traffic | None:
        return self._counter.read() if self._exclusive and self._counter is not None else None

    async def _send(self) -> None:
        try:
            while True:
                sample = await self._outgoing.get()
                if not sample.reply.done():
                    sample.delivery.attempts += 1
                    sample.delivery.frame_bytes += len(sample.message)
                    await _written(self._call, sample.message)
        except (LostError, RefusedError) as error:
            self._lose(str(error))

    async def _receive(self) -> None:
        try:
            while True:
                raw = await _read(self._call)
                received_at, traffic = time.perf_counter(), self._traffic()
                reply = _downlink(raw)
                self.answered += 1
                sample = self._pending.get(reply.sample)
                if sample is not None and not sample.reply.done():
                    sample.reply.set_result((reply, received_at, traffic))
        except (LostError, RefusedError) as error:
            self._lose(str(error))

    def _lose(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
        for sample in self._pending.values():
            if not sample.reply.done():
                sample.reply.set_exception(LostError(why))


async def _written(call: Any, message: bytes) -> None:
    try:
        await call.write(message)
    except asyncio.InvalidStateError:
        raise await _reason(call) from None
    except grpc.aio.AioRpcError as error:
        raise failure(error.code(), error.details()) from None


async def _read(call: Any) -> bytes:
    try:
        raw = await call.read()
    except grpc.aio.AioRpcError as error:
        raise failure(error.code(), error.details()) from None
    if raw is grpc.aio.EOF:
        raise await _reason(call)
    return bytes(raw)


async def _reason(call: Any) -> LostError | RefusedError:
    return failure(await call.code(), await call.details())


def failure(code: grpc.StatusCode, details: str | None) -> LostError | RefusedError:
    """What a call that ended with a status means for the device: whether trying again may help."""
    if code is grpc.StatusCode.OK:
        return LostError("the server ended the stream")
    text = f"{code.name}: {details}"
    return RefusedError(text) if code in _FINAL else LostError(text)


def _downlink(raw: bytes) -> Downlink:
    try:
        return Downlink.FromString(raw)
    except DecodeError:
        raise LostError("the server sent something that is no reply") from None


async def _resolved(server: str) -> list[tuple[str, int]]:
    """IP addresses and port that HOST:PORT stands for; empty if it stands for none."""
    host, _, port = server.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return []
    return [(str(where[0]), int(where[1])) for *_, where in found]


def _inodes(peers: list[tuple[str, int]]) -> set[int]:
    counters = connected_sockets(peers)
    inodes = {counter.inode for counter in counters}
    for counter in counters:
        counter.close()
    return inodes


def _newest(peers: list[tuple[str, int]], earlier: set[int]) -> SocketCounter | None:
    """The counter of the one socket that was not there before; None if there is not exactly one."""
    counters = connected_sockets(peers)
    new = [counter for counter in counters if counter.inode not in earlier]
    chosen = new[0] if len(new) == 1 else None
    for counter in counters:
        if counter is not chosen:
            counter.close()
    return chosen
