"""Runs a device's samples through one model and writes down what each of them cost."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from edge.bundle import DeviceHalf
from edge.client import TailClient
from edge.clock import Clock
from edge.journal import Journal
from edge.meter import Outcome
from edge.pace import SLOWER, Pace
from edge.plan import Plan, Tally
from edge.processor import Processor
from edge.recorder import Recorder
from edge.samples import Samples
from edge.sending import Choice, Coded
from edge.stream import Delivery, StreamRecord
from edge.turns import AtInterval, OnSchedule, Turns

if TYPE_CHECKING:
    from edge.rpc import Downlink

__all__ = ["Plan", "Tally", "run_model"]

_PROGRESS_S = 1.0


async def run_model(
    half: DeviceHalf,
    samples: Samples,
    plan: Plan,
    journal: Journal,
    fallback: DeviceHalf | None = None,
    choice: Choice = Choice(),  # noqa: B008  immutable
    pace: Pace = Pace(),  # noqa: B008  immutable
    let_go: Callable[[], Awaitable[None]] | None = None,
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

    A stage that ``pace`` sets is waited out and ``modelled``. Where this host takes longer the stage is
    ``measured``, and ``total`` says so.

    ``let_go`` is awaited when all is ready: warmed up, and connected. From then on a schedule counts.

    Raises:
        JournalError: the events could not be written.
        ValueError: images of another shape than the model's, a model that needs a server without one, a
            choice or a pace that the model does not have, or a schedule of more or fewer samples.
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
    pace.check(half)
    if plan.schedule is not None:
        plan.schedule.check(len(samples))
    runner = _Runner(half, fallback, samples, plan, journal, choice, pace, let_go)
    try:
        return await runner.run()
    finally:
        runner.processor.close()


class _Runner:
    def __init__(
        self,
        half: DeviceHalf,
        fallback: DeviceHalf | None,
        samples: Samples,
        plan: Plan,
        journal: Journal,
        choice: Choice,
        pace: Pace,
        let_go: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._half = half
        self._fallback = fallback
        self._samples = samples
        self._plan = plan
        self._choice = choice
        self._pace = pace
        self._let_go = let_go
        self.processor = Processor(pace, aside=plan.in_flight > 1)
        self._method = choice.name(half)
        self._recorder = Recorder(journal, plan.run, self._method, plan.client, half.spec.rate)
        self._tally = Tally()
        self._done = 0
        self._reported = time.monotonic()

    async def run(self) -> Tally:
        """Every sample, each until it is final."""
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
        if self._let_go is not None:
            await self._let_go()
        schedule = self._plan.schedule
        turns: Turns = AtInterval(self._plan.interval_s) if schedule is None else OnSchedule(schedule)

        async def one(position: int, image: Tensor, clock: Clock) -> None:
            try:
                await run_one(position, image, clock)
            finally:
                turns.answered(time.perf_counter() if clock.ended is None else clock.ended)
                slots.release()
            self._done += 1
            self._report()

        try:
            async with asyncio.TaskGroup() as group:
                for position in range(len(self._samples)):
                    await slots.acquire()
                    image = self._samples.image(position)
                    group.create_task(one(position, image, await turns.next()))
        except BaseExceptionGroup as errors:  # no sample's own: what ended the run, once for each in flight
            raise errors.exceptions[0] from None
        finally:
            turns.close()

    # One sample.

    async def _locally(self, position: int, image: Tensor, clock: Clock) -> None:
        try:
            async with self.processor.taken():
                logits = await self.processor.stage(clock, "head", self._half.features, image)
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
            async with self.processor.taken():
                features = await self.processor.stage(clock, "head", self._half.features, image)
                coded = await self.processor.stage(clock, "encode", self._encoded, features)
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
            logits = await self.processor.compute(self._fallback.features, image)
        except BaseException as error:
            detail = f"{why}; fallback: {_told(error)}"
            await self._finish(position, clock, "failed", payload, delivery, detail=detail)
            return
        clock.stop()
        label = int(logits.argmax())
        await self._finish(position, clock, "local", payload, delivery, prediction=label, detail=why)

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
        if (slower := self._pace.note(clock)) is not None:
            self._tally.slower += 1
            details.append(slower)
        sent: dict[str, Any] = {}
        if payload is not None and delivery is not None:
            sent = _bytes(payload, delivery)
            if delivery.attempts > 1:
                details.append(f"sent {delivery.attempts} times")
            try:
                sent["ideal_bits"] = await self.processor.compute(self._ideal_bits, payload)
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
        if last and self._tally.slower:
            text = f"{self._method}: {SLOWER}, for {self._tally.slower} of {self._done} samples"
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
