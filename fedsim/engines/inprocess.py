"""The engine ``inprocess``: both halves of each model in this process, for many samples and many models.

::

    sample --head--encode--> payload --frame--> bytes --frame--> payload --decode--tail--> label

What a sample costs is computed as the engine ``processes`` computes it, sample by sample on the
device's side, with real payloads in real messages: payload and frame bytes are the same. There is no
socket, so no wire bytes; no queue, so no such stage; ``send`` is the time that making and reading the
message takes, and ``in_flight``, deadlines, schedules, cells and the pace of another device have no meaning:
each sample takes what it takes here, right behind the one before. Decoder and tail work on batches of the
server's size, whose time counts for each of their samples, as on the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from edge import bundle, tail
from edge.bundle import DeviceHalf, ServerHalf
from edge.clock import Clock
from edge.coding.frame import FrameError, check_sample
from edge.journal import Journal
from edge.meter import Outcome
from edge.recorder import Recorder
from edge.rpc import edge_pb2, sample_message
from edge.samples import Samples
from edge.sending import Choice, Erasure
from fedsim.engines.plan import RunPlan
from fedsim.errors import EngineError
from fedsim.threads import torch_threads

__all__ = ["run"]

_REPORT_S = 0.2


def run(plan: RunPlan, report: Callable[[int], None]) -> list[str]:
    """Carry the plan out, method by method and device by device.

    Args:
        plan: what to run; its ``workers``, ``batch_wait_ms`` and ``cells`` have no meaning here.
        report: called with the number of samples finished so far, a few times a second.

    Returns:
        nothing that was mended: nothing can be.

    Raises:
        EngineError: a model and the samples do not fit each other.
        BundleError: a bundle that cannot be loaded.
    """
    plan.events.mkdir(parents=True)
    counter = _Counter(report)
    with ExitStack() as stack:
        stack.enter_context(torch_threads(1))  # as on a device: payloads may depend on it
        stack.enter_context(torch.inference_mode())
        devices = []
        for number, device in enumerate(plan.devices):
            journal = Journal(plan.events / f"{device.client}.jsonl")
            stack.callback(journal.close)
            samples = Samples(plan.samples, (number, len(plan.devices)))
            fallback = None if device.fallback is None else bundle.load_device(device.fallback)
            devices.append((device, journal, samples, fallback))
        for method in plan.methods:
            half = bundle.load_device(method.bundle)
            server = None if half.local else bundle.load_server(method.bundle)
            for device, journal, samples, fallback in devices:
                row = _Row(
                    plan.batch_size,
                    Choice(method.name, method.level),
                    Erasure(device.erasure, device.erasure_seed),
                    half,
                    server,
                    fallback,
                    samples,
                    Recorder(journal, plan.run, method.name, device.client, half.spec.rate),
                    counter,
                )
                row.run()
    counter.tell()
    return []


class _Counter:
    """Counts finished samples, and tells of them not too often."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._count = 0
        self._next = 0.0

    def add(self) -> None:
        self._count += 1
        if time.monotonic() >= self._next:
            self.tell()

    def tell(self) -> None:
        self._report(self._count)
        self._next = time.monotonic() + _REPORT_S


@dataclass
class _Waiting:
    """A sample whose payload has arrived at the server."""

    position: int
    clock: Clock
    payload: bytes  #: what arrived; shorter than what was sent, where packets were erased
    sent: dict[str, Any]
    handed_at: float
    note: str | None


@dataclass
class _Row:
    """The samples of one device through one model."""

    batch_size: int
    choice: Choice
    erasure: Erasure
    half: DeviceHalf
    server: ServerHalf | None
    fallback: DeviceHalf | None
    samples: Samples
    recorder: Recorder
    counter: _Counter

    def run(self) -> None:
        """Every sample, each until it is final."""
        name = self.choice.name(self.half)
        expected, found = list(self.half.spec.input_shape), list(self.samples.shape)
        if expected != found:
            raise EngineError(f"model {name} takes images {expected}, the samples are {found}")
        try:
            self.choice.check(self.half)
        except ValueError as error:
            raise EngineError(f"method {name}: {error}") from error
        if self.server is None:
            for position in range(len(self.samples)):
                self._locally(position)
            return
        batch: list[_Waiting] = []
        for position in range(len(self.samples)):
            if (waiting := self._sent(position, self.server)) is not None:
                batch.append(waiting)
            if len(batch) == self.batch_size:
                self._answer(batch, self.server)
                batch = []
        if batch:
            self._answer(batch, self.server)

    def _locally(self, position: int) -> None:
        clock = Clock()
        try:
            start = time.perf_counter()
            logits = self.half.features(self.samples.image(position))
            clock.add("head", start, time.perf_counter() - start)
        except Exception as error:
            self._finish(position, clock, "failed", detail=_told(error))
            return
        self._finish(position, clock, "local", prediction=int(logits.argmax()))

    def _sent(self, position: int, server: ServerHalf) -> _Waiting | None:
        """The device's part of a sample; None where it has ended there."""
        image, number = self.samples.image(position), self.samples.number(position)
        clock = Clock()
        try:
            features = self.half.features(image)
            at = clock.add("head", clock.began, time.perf_counter() - clock.began)
            coded = self.choice.encoded(self.half, features)
            clock.add("encode", at, time.perf_counter() - at)
            arriving = self.erasure.passed(self.half, coded.payload, number)
        except Exception as error:
            self._finish(position, clock, "failed", detail=_told(error))
            return None
        if coded.payload is None or arriving is None:
            why = "every packet was lost" if coded.payload else coded.note or "nothing to send"
            self._alone(position, clock, why)
            return None
        began = time.perf_counter()
        message = sample_message(number, arriving)
        sent: dict[str, Any] = {"payload_bytes": len(coded.payload), "frame_bytes": len(message)}
        try:
            received = edge_pb2.Uplink.FromString(message)
            check_sample(received.sample, received.payload, received.checksum, server.max_payload)
        except FrameError as error:
            clock.add("send", began, time.perf_counter() - began)
            self._alone(position, clock, f"refused by the server: {error}", sent)
            return None
        ended = clock.add("send", began, time.perf_counter() - began)
        try:
            bottleneck = self.half.bottleneck
            sent["ideal_bits"] = None if bottleneck is None else bottleneck.ideal_bits(coded.payload)
        except Exception as error:
            note = "; ".join(filter(None, (coded.note, f"ideal_bits: {_told(error)}")))
            return _Waiting(position, clock, received.payload, sent, ended, note)
        return _Waiting(position, clock, received.payload, sent, ended, coded.note)

    def _answer(self, batch: list[_Waiting], server: ServerHalf) -> None:
        """The server's part of a batch."""
        answers = tail.predict(server, [tail.Request(waiting.payload) for waiting in batch])
        for waiting, answer in zip(batch, answers, strict=True):
            clock = waiting.clock
            if isinstance(answer, tail.Refusal):
                why = f"refused by the server: {answer.message}"
                self._alone(waiting.position, clock, why, waiting.sent)
                continue
            at = clock.add("decode", waiting.handed_at, answer.decode_s)
            clock.stop(clock.add("tail", at, answer.tail_s))
            prediction = answer.labels[0]
            self._finish(
                waiting.position,
                clock,
                "answered",
                waiting.sent,
                prediction=prediction,
                detail=waiting.note,
            )

    def _alone(self, position: int, clock: Clock, why: str, sent: dict[str, Any] | None = None) -> None:
        """What becomes of a sample that the server does not answer."""
        if self.fallback is None:
            self._finish(position, clock, "failed", sent, detail=why)
            return
        _, before, taken = clock.spans[-1] if clock.spans else ("", clock.began, 0.0)
        try:
            start = time.perf_counter()
            logits = self.fallback.features(self.samples.image(position))
            clock.stop(before + taken + time.perf_counter() - start)
        except Exception as error:
            self._finish(position, clock, "failed", sent, detail=f"{why}; fallback: {_told(error)}")
            return
        self._finish(position, clock, "local", sent, prediction=int(logits.argmax()), detail=why)

    def _finish(
        self,
        position: int,
        clock: Clock,
        outcome: Outcome,
        sent: dict[str, Any] | None = None,
        *,
        prediction: int | None = None,
        detail: str | None = None,
    ) -> None:
        self.recorder.sample(
            self.samples.number(position),
            self.samples.label(position),
            clock,
            outcome,
            sent=sent,
            prediction=prediction,
            detail=detail,
        )
        self.counter.add()


def _told(error: Exception) -> str:
    """What a sample failed with."""
    return f"{type(error).__name__}: {error}"
