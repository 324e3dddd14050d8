"""The tail service: what it answers to a handshake, a sample, and to what is neither.

Messages come as raw bytes and are parsed here, so that garbage is answered with INVALID_ARGUMENT.
A sample's fault is answered for that sample and its stream goes on; a fault of the conversation
(no handshake, garbage) ends that stream, after everything received before it has been answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from edge.batching import Batcher, Completed
from edge.coding.frame import PROTOCOL, FrameError, Handshake, check_sample
from edge.prototypes.service import PrototypeService
from edge.rejection import LONGEST_ERROR, RejectedError, parsed
from edge.rpc import (
    SERVICE,
    DescribeRequest,
    Description,
    Downlink,
    Timing,
    Uplink,
    Welcome,
    from_handshake,
    to_handshake,
)
from edge.tail import Prediction, Refusal, Request, predict

if TYPE_CHECKING:
    from edge.bundle import ServerHalf
    from edge.prototypes.store import PrototypeStore

__all__ = ["FRAME_MARGIN", "Settings", "TailService"]

#: Bytes that a message may have beyond its payload: number, checksum, and a unary call's handshake.
FRAME_MARGIN = 1024

_log = logging.getLogger(__name__)
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_HANDSHAKE_S = 5.0  # that a stream may stay open without one


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server batches and what it holds at most.

    Args:
        batch: largest batch.
        wait_s: how long an open batch waits for more samples.
        workers: batches that run at once.
        max_in_flight: samples of one stream that may await an answer; beyond it the stream is not read.
        max_waiting: samples of all streams together that may await an answer.
        max_calls: streams and calls that may be open at once; a further one is answered
            RESOURCE_EXHAUSTED.
    """

    batch: int = 32
    wait_s: float = 0.002
    workers: int = 1
    max_in_flight: int = 32
    max_waiting: int = 1024
    max_calls: int = 1024


_SHUTTING_DOWN = (grpc.StatusCode.UNAVAILABLE, "shutting down")


@dataclass(frozen=True, slots=True)
class _Model:
    half: ServerHalf
    expected: Handshake
    batcher: Batcher[Request, Prediction | Refusal]


class TailService:
    """Serves the tails of several models, told apart by the model id in the handshake.

    Args:
        halves: the server halves by model id.
        settings: batching and bounds.
        prototypes: devices may add to these, and they, not the largest output, tell the class of a sample.
            All models have outputs of their dimension.
    """

    def __init__(
        self, halves: Mapping[str, ServerHalf], settings: Settings, prototypes: PrototypeStore | None = None
    ) -> None:
        self._settings = settings
        self._learning = None if prototypes is None else PrototypeService(prototypes)
        self._executor = ThreadPoolExecutor(settings.workers, thread_name_prefix="tail")
        workers = asyncio.Semaphore(settings.workers)
        self._models = {
            name: _Model(
                half=half,
                expected=half.handshake(),
                batcher=Batcher(
                    partial(predict, half, store=prototypes),
                    size=settings.batch,
                    wait_s=settings.wait_s,
                    executor=self._executor,
                    workers=workers,
                ),
            )
            for name, half in halves.items()
        }
        self._room = asyncio.Semaphore(settings.max_waiting)
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self._calls = 0
        self._streams = 0
        self._waiting = 0
        self._answered = 0
        self._rejected = 0

    @property
    def max_message(self) -> int:
        """Bytes of the largest message that some model served can need."""
        longest = max(model.half.max_payload for model in self._models.values())
        return max(longest, self._learning.max_statistics if self._learning else 0) + FRAME_MARGIN

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server needs to route calls here; without (de)serialisers, so bytes as they come."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
                "Infer": grpc.unary_unary_rpc_method_handler(self._infer),
                "Describe": grpc.unary_unary_rpc_method_handler(self._describe),
                "PushStatistics": grpc.unary_unary_rpc_method_handler(
                    partial(self._learn, PrototypeService.push)
                ),
                "GetPrototypes": grpc.unary_unary_rpc_method_handler(
                    partial(self._learn, PrototypeService.get)
                ),
            },
        )

    def start(self) -> None:
        """Begin to form batches."""
        for model in self._models.values():
            model.batcher.start()

    async def drain(self) -> None:
        """Read no more, answer everything received, end the streams. Returns when no call is left."""
        if not self._stopping.done():
            self._stopping.set_result(None)
        await self._idle.wait()

    async def stop(self) -> None:
        """Give up what still waits and free the worker threads."""
        for model in self._models.values():
            await model.batcher.stop()
        self._executor.shutdown()
        if self._learning is not None:
            self._learning.stop()

    # The methods of the service.

    async def _stream(self, _requests: object, context: Any) -> None:
        async with self._call(context):
            self._streams += 1
            try:
                await self._converse(context)
            finally:
                self._streams -= 1

    async def _infer(self, raw: bytes, context: Any) -> bytes:
        async with self._call(context):
            uplink = parsed(Uplink, raw)
            model, handshake = self._accepted(uplink)
            downlink = await self._answer(model, uplink, handshake.top)
            if downlink.code:
                await context.abort(_STATUS[downlink.code], downlink.error)
            return downlink.SerializeToString()

    async def _describe(self, raw: bytes, context: Any) -> bytes:
        async with self._call(context):
            parsed(DescribeRequest, raw)
            return Description(
                protocol=PROTOCOL,
                models=[from_handshake(model.expected) for model in self._models.values()],
                streams=self._streams,
                waiting=self._waiting,
                answered=self._answered,
                rejected=self._rejected,
            ).SerializeToString()

    async def _learn(
        self, answer: Callable[[PrototypeService, bytes], Awaitable[bytes]], raw: bytes, context: Any
    ) -> bytes:
        async with self._call(context):
            if self._learning is None:
                text = "this server keeps no prototypes: it was started without --prototypes"
                raise RejectedError(grpc.StatusCode.UNIMPLEMENTED, text)
            return await answer(self._learning, raw)

    @asynccontextmanager
    async def _call(self, context: Any) -> AsyncIterator[None]:
        """Keep count of open calls; turn a rejection into the call's status."""
        self._calls += 1
        self._idle.clear()
        try:
            if self._stopping.done():
                raise RejectedError(*_SHUTTING_DOWN)
            if self._calls > self._settings.max_calls:
                text = f"{self._settings.max_calls} calls are open, the most that are allowed"
                raise RejectedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            yield
        except RejectedError as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                self._rejected += 1
                _log.info("%s: %s: %s", context.peer(), error.code.name, error.message)
            await context.abort(error.code, error.message)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    # A stream.

    async def _converse(self, context: Any) -> None:
        first = await self._read(context, _HANDSHAKE_S)
        if first is None:
            raise RejectedError(grpc.StatusCode.FAILED_PRECONDITION, "the stream ended before its handshake")
        opening = parsed(Uplink, first)
        model, handshake = self._accepted(opening)
        if opening.sample or opening.payload or opening.checksum:
            text = "the handshake of a stream comes alone, but there is a sample in its message"
            raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, text)
        _log.info("%s: %r opened a stream for model %s", context.peer(), handshake.client, handshake.model)
        await context.write(self._welcome(model))
        slots = asyncio.Semaphore(self._settings.max_in_flight)
        writing = asyncio.Lock()
        rejected: RejectedError | None = None
        async with asyncio.TaskGroup() as group:
            while rejected is None:
                await slots.acquire()
                try:
                    raw = await self._read(context)
                    if raw is None:
                        break
                    uplink = _sample(raw)
                except RejectedError as error:
                    rejected = error
                else:
                    reply = self._reply(context, model, uplink, handshake.top, writing)
                    group.create_task(reply).add_done_callback(lambda _: slots.release())
        if rejected is not None:
            raise rejected

    async def _reply(
        self, context: Any, model: _Model, uplink: Uplink, top: int, writing: asyncio.Lock
    ) -> None:
        downlink = await self._answer(model, uplink, top)
        async with writing:
            await context.write(downlink.SerializeToString())

    async def _read(self, context: Any, patience_s: float | None = None) -> bytes | None:
        """The next message; None at the end of the stream.

        A read that is pending when the server begins to shut down, or loses its patience, is left to
        end with its call: gRPC has no way to take one back.
        """
        if self._stopping.done():
            raise RejectedError(*_SHUTTING_DOWN)
        reading = asyncio.ensure_future(context.read())
        waited_for = (reading, self._stopping)
        await asyncio.wait(waited_for, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            reading.add_done_callback(_forget)
            if self._stopping.done():
                raise RejectedError(*_SHUTTING_DOWN)
            raise RejectedError(grpc.StatusCode.DEADLINE_EXCEEDED, f"no handshake within {patience_s:g} s")
        raw = reading.result()
        return None if raw is grpc.aio.EOF else raw

    def _welcome(self, model: _Model) -> bytes:
        welcome = Welcome(
            protocol=PROTOCOL,
            model=model.expected.model,
            max_in_flight=self._settings.max_in_flight,
            max_payload=model.half.max_payload,
        )
        return Downlink(welcome=welcome).SerializeToString()

    def _accepted(self, uplink: Uplink) -> tuple[_Model, Handshake]:
        """The model that a message's handshake asks for."""
        if not uplink.HasField("handshake"):
            raise RejectedError(grpc.StatusCode.FAILED_PRECONDITION, "expected a handshake, got a sample")
        handshake = to_handshake(uplink.handshake)
        if handshake.protocol != PROTOCOL:
            raise RejectedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"protocol version: expected {PROTOCOL}, got {handshake.protocol}",
            )
        model = self._models.get(handshake.model)
        if model is None:
            raise RejectedError(grpc.StatusCode.FAILED_PRECONDITION, self._unknown(handshake.model))
        mismatch = model.expected.mismatch(handshake)
        if mismatch is not None:
            wrong_shape = model.expected.tables == handshake.tables
            code = grpc.StatusCode.INVALID_ARGUMENT if wrong_shape else grpc.StatusCode.FAILED_PRECONDITION
            raise RejectedError(code, mismatch)
        return model, handshake

    def _unknown(self, name: str) -> str:
        """What to say to a device with a model that is not served."""
        for model in self._models.values():
            if name in model.half.replaces:
                fresh = model.half.model_id
                return f"model id: {name} is outdated: {fresh} has replaced it; update this device's model"
        return f"model id: expected {' or '.join(self._models)}, got {name[:64]!r}"

    # A sample.

    async def _answer(self, model: _Model, uplink: Uplink, top: int) -> Downlink:
        arrived = time.perf_counter()
        self._waiting += 1
        try:
            check_sample(uplink.sample, uplink.payload, uplink.checksum, model.half.max_payload)
            async with self._room:
                completed = await model.batcher.submit(Request(uplink.payload, top), arrived)
        except FrameError as error:
            return self._refused(uplink.sample, error.code, str(error))
        except Exception as error:  # the tail failed on this batch; the server goes on
            _log.exception("model %s failed on a batch", model.expected.model)
            message = f"{type(error).__name__} in the tail; the server's log has more"
            return self._refused(uplink.sample, grpc.StatusCode.INTERNAL.value[0], message)
        finally:
            self._waiting -= 1
        result = completed.result
        if isinstance(result, Refusal):
            return self._refused(uplink.sample, result.code, f"sample {uplink.sample}: {result.message}")
        self._answered += 1
        return _downlink(uplink.sample, completed, result)

    def _refused(self, sample: int, code: int, message: str) -> Downlink:
        self._rejected += 1
        return Downlink(sample=sample, code=code, error=message[:LONGEST_ERROR])


def _downlink(sample: int, completed: Completed[Any], prediction: Prediction) -> Downlink:
    return Downlink(
        sample=sample,
        labels=prediction.labels,
        scores=prediction.scores,
        timing=Timing(
            queue_us=round(completed.queue_s * 1e6),
            decode_us=round(prediction.decode_s * 1e6),
            tail_us=round(prediction.tail_s * 1e6),
            batch=prediction.batch,
        ),
    )


def _sample(raw: bytes) -> Uplink:
    uplink = parsed(Uplink, raw)
    if uplink.HasField("handshake"):
        raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, "a second handshake in one stream")
    return uplink


def _forget(reading: asyncio.Future[Any]) -> None:
    if not reading.cancelled():
        reading.exception()
