"""Runs a device's samples through one model and writes down what each of them cost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from torch import Tensor

from edge.bundle import DeviceHalf
from edge.client import TailClient
from edge.clock import Clock
from edge.journal import Journal
from edge.meter import Outcome
from edge.recorder import Recorder
from edge.samples import Samples
from edge.sending import Choice, Coded, Erasure
from edge.stream import Delivery, StreamRecord

if TYPE_CHECKING:
    from edge.rpc import Downlink

__all__ = ["Plan", "Tally", "run_model"]

_PROGRESS_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How samples are run, whichever the model.

    Args:
        run: name of the run, for the events.
        client: name of this device, for the events and the server's log.
        server: HOST:PORT; not needed for a model that runs on the device as a whole.
        in_flight: samples in progress at once.
        deadline_s: time that a sample has on its way to the server and back.
        interval_s: samples are scheduled this far apart; 0 begins one as soon as another is final. The
            clock of a sample that has to wait for its turn starts when it was scheduled, so that its
            ``total`` has the wait in it, which is no stage.
        warmup: times that the first sample is run, unrecorded, before the stream is opened.
        credentials: for TLS; plain TCP without.
        erasure: packets that are lost on the way to the server. Events carry what a payload held before
            (``ideal_bits``, ``payload_bytes``), and what crossed the socket after (``frame_bytes``,
            ``wire_bytes``); of a sample that lost every packet nothing crossed, and no bytes are noted.
    """

    run: str
    client: str
    server: str | None = None
    in_flight: int = 1
    deadline_s: float = 10.0
    interval_s: float = 0.0
    warmup: int = 3
    credentials: grpc.ChannelCredentials | None = None
    erasure: Erasure = field(default_factory=Erasure)


@dataclass(slots=True)
class Tally:
    """How it went: samples that failed, and why the server refused the device, if it did."""

    failed: int = 0
    refused: str | None = None


async def run_model(
    half: DeviceHalf,
    samples: Samples,
    plan: Plan,
    journal: Journal,
    fallback: DeviceHalf | None = None,
    choice: Choice = Choice(),  # noqa: B008  immutable
) -> Tally:
    """Run every sample until it is answered, answered by ``fallback``, or failed.

    The events of a sample are written once, when it is final: its stages, and ``total`` with the
    outcome. Each stream, and each attempt to open one, adds an event ``stream`` with all the bytes of
    its connection. Stages stand one behind the other: ``send`` is the time from handing a payload over
    until its reply came, less the server's share (queue, decode, tail), and so has the way there and
    the way back. Reading the image is no part of any.

    A sample on which the head or the encoder fails has failed, and the others go on. One of which nothing
    is sent, because no level fits ``choice.max_bytes`` or every packet was lost, goes to ``fallback`` or
    has failed.

    Raises:
        JournalError: the events could not be written.
        ValueError: images of another shape than the model's, a model that needs a server without one, or
            a choice that the model does not have.
    """
    for name, model in (("model", half), ("fallback model", fallback)):
        if model is not None and tuple(model.spec.input_shape) != samples.shape:
            expected, found = list(model.spec.input_shape), list(samples.shape)
            raise ValueError(f"{name} {model.spec.name} takes images {expected}, the samples are {found}")
    if fallback is not None and not fallback.local:
        raise ValueError(
            f"fallback model {fallback.spec.name} is split at {fallback.spec.cut}; it has to be whole"
        )
    if plan.server is None and not half.local:
        raise ValueError(f"model {half.spec.name} needs a tail server: --server HOST:PORT")
    choice.check(half)
    runner = _Runner(half, fallback, samples, plan, journal, choice)
    try:
        return await runner.run()
    finally:
        runner.executor.shutdown()


class _Runner:
    def __init__(
        self,
        half: DeviceHalf,
        fallback: DeviceHalf | None,
        samples: Samples,
        plan: Plan,
        journal: Journal,
        choice: Choice,
    ) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="head")
        self._half = half
        self._fallback = fallback
        self._samples = samples
        self._plan = plan
        self._choice = choice
        self._method = choice.name(half)
        self._recorder = Recorder(journal, plan.run, self._method, plan.client, half.spec.rate)
        self._tally = Tally()
        self._done = 0
        self._reported = time.monotonic()

    async def run(self) -> Tally:
        image = self._samples.image(0)
        for _ in range(self._plan.warmup):
            features = self._half.features(image)
            if not self._half.local:
                self._encoded(features)
        if self._half.local:
            await self._each(self._locally)
        else:
            await self._remotely(self._plan.server or "")
        self._report(last=True)
        return self._tally

    async def _remotely(self, server: str) -> None:
        client = TailClient(
            server,
            self._half.handshake(self._plan.client),
            in_flight=self._plan.in_flight,
            credentials=self._plan.credentials,
            on_stream=self._record_stream,
        )
        try:
            await client.connect()
            await self._each(partial(self._over, client))
        finally:
            self._tally.refused = client.refused
            await client.close()

    async def _each(self, run_one: Callable[[int, Tensor, Clock], Awaitable[None]]) -> None:
        slots = asyncio.Semaphore(self._plan.in_flight)
        first = time.perf_counter()

        async def one(position: int, image: Tensor, scheduled: float | None) -> None:
            clock = Clock() if scheduled is None else Clock(scheduled)
            try:
                await run_one(position, image, clock)
            finally:
                slots.release()
            self._done += 1
            self._report()

        try:
            async with asyncio.TaskGroup() as group:
                for position in range(len(self._samples)):
                    await slots.acquire()
                    image = self._samples.image(position)
                    late = await self._turn(first + position * self._plan.interval_s)
                    group.create_task(one(position, image, late))
        except BaseExceptionGroup as errors:  # no sample's own: what ended the run, once for each in flight
            raise errors.exceptions[0] from None

    async def _turn(self, scheduled: float) -> float | None:
        """Wait for the time at which a sample is scheduled; that time, if it has passed already."""
        early = scheduled - time.perf_counter()
        if not self._plan.interval_s:
            return None
        if early < 0:
            return scheduled
        await asyncio.sleep(early)
        return None

    # One sample.

    async def _locally(self, position: int, image: Tensor, clock: Clock) -> None:
        try:
            logits = await self._timed(clock, "head", self._half.features, image)
        except BaseException as error:
            await self._finish(position, clock, "failed", detail=_told(error))
            return
        clock.stop()
        await self._finish(position, clock, "local", prediction=int(logits.argmax()))

    async def _over(self, client: TailClient, position: int, image: Tensor, clock: Clock) -> None:
        if client.refused is not None:
            await self._alone(position, image, clock, f"refused by the server: {client.refused}")
            return
        number = self._samples.number(position)
        try:
            features = await self._timed(clock, "head", self._half.features, image)
            coded = await self._timed(clock, "encode", self._encoded, features)
            arriving = self._plan.erasure.passed(self._half, coded.payload, number)
        except BaseException as error:
            await self._finish(position, clock, "failed", detail=_told(error))
            return
        payload = coded.payload
        if payload is None or arriving is None:
            why = "every packet was lost" if payload else coded.note
            await self._alone(position, image, clock, why or "nothing to send")
            return
        delivery = await client.ask(number, arriving, self._plan.deadline_s)
        reply = delivery.reply
        if reply is not None and reply.code == 0 and reply.labels:
            _note_answer(clock, delivery, reply)
            label = reply.labels[0]
            await self._finish(
                position, clock, "answered", payload, delivery, prediction=label, detail=coded.note
            )
            return
        why = delivery.detail or (f"refused by the server: {reply.error}" if reply else "no reply")
        clock.add("send", delivery.sent_at, time.perf_counter() - delivery.sent_at)
        await self._alone(position, image, clock, why, payload, delivery)

    async def _alone(
        self,
        position: int,
        image: Tensor,
        clock: Clock,
        why: str,
        payload: bytes | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        """What becomes of a sample that the server does not answer."""
        if self._fallback is None:
            await self._finish(position, clock, "failed", payload, delivery, detail=why)
            return
        try:
            logits = await self._computed(self._fallback.features, image)
        except BaseException as error:
            detail = f"{why}; fallback: {_told(error)}"
            await self._finish(position, clock, "failed", payload, delivery, detail=detail)
            return
        clock.stop()
        label = int(logits.argmax())
        await self._finish(position, clock, "local", payload, delivery, prediction=label, detail=why)

    async def _timed(self, clock: Clock, stage: str, function: Callable[[Any], T], argument: Any) -> T:
        def run(value: Any) -> tuple[float, float, T]:
            start = time.perf_counter()
            result = function(value)
            return start, time.perf_counter() - start, result

        start, duration, result = await self._computed(run, argument)
        clock.add(stage, start, duration)
        return result

    async def _computed(self, function: Callable[[Any], T], argument: Any) -> T:
        """Compute in a thread where other samples are in flight, so that their replies are seen on time."""
        if self._plan.in_flight == 1:
            return function(argument)
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, argument)

    def _encoded(self, features: Tensor) -> Coded:
        return self._choice.encoded(self._half, features)

    # What is written down.

    async def _finish(
        self,
        position: int,
        clock: Clock,
        outcome: Outcome,
        payload: bytes | None = None,
        delivery: Delivery | None = None,
        *,
        prediction: int | None = None,
        detail: str | None = None,
    ) -> None:
        if clock.ended is None:  # before the information is counted, which is no part of the sample
            clock.stop()
        if outcome == "failed":
            self._tally.failed += 1
        details = [] if detail is None else [detail]
        sent: dict[str, Any] = {}
        if payload is not None and delivery is not None:
            sent = _bytes(payload, delivery)
            if delivery.attempts > 1:
                details.append(f"sent {delivery.attempts} times")
            try:
                sent["ideal_bits"] = await self._computed(self._ideal_bits, payload)
            except BaseException as error:
                details.append(f"ideal_bits: {_told(error)}")
        self._recorder.sample(
            self._samples.number(position),
            self._samples.label(position),
            clock,
            outcome,
            sent=sent,
            prediction=prediction,
            detail="; ".join(details) or None,
        )

    def _ideal_bits(self, payload: bytes) -> float | None:
        bottleneck = self._half.bottleneck
        return None if bottleneck is None else bottleneck.ideal_bits(payload)

    def _record_stream(self, record: StreamRecord) -> None:
        self._recorder.stream(
            record.opened_at,
            record.duration_s,
            wire_bytes=record.traffic.wire_sent if record.traffic else None,
            reply_wire_bytes=record.traffic.wire_received if record.traffic else None,
            detail=record.detail,
        )

    def _report(self, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._reported >= _PROGRESS_S:
            self._reported = now
            text = f"{self._method}: sample {self._done}/{len(self._samples)}"
            print(text, file=sys.stderr, flush=True)


def _note_answer(clock: Clock, delivery: Delivery, reply: Downlink) -> None:
    timing = reply.timing
    server = (("queue", timing.queue_us), ("decode", timing.decode_us), ("tail", timing.tail_us))
    way = delivery.received_at - delivery.sent_at - sum(us for _, us in server) / 1e6
    at = clock.add("send", delivery.sent_at, max(0.0, way))
    for stage, us in server:
        at = clock.add(stage, at, us / 1e6)
    clock.stop(delivery.received_at)


def _bytes(payload: bytes, delivery: Delivery) -> dict[str, Any]:
    traffic = delivery.traffic
    return {
        "payload_bytes": len(payload),
        "frame_bytes": delivery.frame_bytes,
        "wire_bytes": traffic.wire_sent if traffic else None,
        "reply_wire_bytes": traffic.wire_received if traffic else None,
    }


def _told(error: BaseException) -> str:
    """What a sample failed with; BaseException, since that is what a panic of native code derives from.

    Raises:
        BaseException: an error that is not the sample's but asks the whole run to end.
    """
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        raise error
    return f"{type(error).__name__}: {error}"
