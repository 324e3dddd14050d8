"""The tail service's part in learning: takes class statistics from devices, and gives out what it has.

What takes time, decoding and writing, runs in one thread, a call at a time, beside the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from edge.bundle import load_device
from edge.coding.frame import Handshake
from edge.prototypes.codec import StatisticsCodec
from edge.prototypes.limits import DEFAULT_BITS, most_bytes, most_rows
from edge.prototypes.statistics import ClassStatistics
from edge.prototypes.store import PrototypeStore, StoreError
from edge.rejection import RejectedError, parsed
from edge.rpc import (
    PrototypesReply,
    PrototypesRequest,
    StatisticsMessage,
    StatisticsReply,
    statistics_checksum,
    to_handshake,
)

if TYPE_CHECKING:
    from edge.bundle import ServerHalf

__all__ = ["PrototypeService", "store_for"]

_log = logging.getLogger(__name__)


class PrototypeService:
    """Answers the two calls that are about prototypes.

    Args:
        store: what the calls are about.
    """

    def __init__(self, store: PrototypeStore) -> None:
        self._store = store
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="prototypes")

    @property
    def max_statistics(self) -> int:
        """Bytes of the largest statistics that are accepted."""
        return most_bytes(self._store.dimension)

    async def push(self, raw: bytes) -> bytes:
        """Count a ``StatisticsMessage``; the serialised ``StatisticsReply``.

        Raises:
            RejectedError: it cannot be counted, and is not.
        """
        return await self._apart(self._push, raw)

    async def get(self, raw: bytes) -> bytes:
        """The serialised ``PrototypesReply`` to a ``PrototypesRequest``.

        Raises:
            RejectedError: it asks for something else than there is.
        """
        return await self._apart(self._get, raw)

    def stop(self) -> None:
        """Let the call that runs finish."""
        self._executor.shutdown()

    async def _apart(self, answer: Callable[[bytes], bytes], raw: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._executor, answer, raw)

    def _push(self, raw: bytes) -> bytes:
        message = parsed(StatisticsMessage, raw)
        handshake = self._accepted(message)
        whose = f"statistics of {handshake.client[:64]!r}"
        data = message.statistics
        if len(data) > self.max_statistics:
            text = f"{whose}: {len(data)} bytes, at most {self.max_statistics} allowed"
            raise RejectedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        if message.checksum != (expected := statistics_checksum(message.push, data)):
            found = f"checksum {message.checksum:08x} does not match their {len(data)} bytes"
            raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, f"{whose}: {found} ({expected:08x})")
        try:
            statistics = self._codec(message.bits).decode(data)
            counted = self._store.add(message.push, handshake.model, statistics)
        except StoreError as error:
            raise RejectedError(grpc.StatusCode.FAILED_PRECONDITION, f"{whose}: {error}") from error
        except ValueError as error:
            raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, f"{whose}: {error}") from error
        except OSError as error:
            _log.exception("%s could not be kept", whose)
            text = f"{whose} could not be kept: {error.strerror or error}"
            raise RejectedError(grpc.StatusCode.INTERNAL, text) from error
        _log.info("%s: %s", whose, _told(statistics) if counted else "counted before")
        known = self._store.statistics
        return StatisticsReply(
            counted=counted, classes=len(known.known), samples=int(known.counts.sum())
        ).SerializeToString()

    def _get(self, raw: bytes) -> bytes:
        request = parsed(PrototypesRequest, raw)
        handshake = self._accepted(request)
        bits = request.bits or DEFAULT_BITS
        try:
            encoded = self._codec(bits).encode(self._store.statistics)
        except ValueError as error:
            text = f"{handshake.client[:64]!r}: {error}"
            raise RejectedError(grpc.StatusCode.INVALID_ARGUMENT, text) from error
        return PrototypesReply(bits=bits, statistics=encoded.payload).SerializeToString()

    def _accepted(self, message: StatisticsMessage | PrototypesRequest) -> Handshake:
        """The handshake of a message, which has to be that of the model that all features come from."""
        if not message.HasField("handshake"):
            text = "expected a handshake with the message, got none"
            raise RejectedError(grpc.StatusCode.FAILED_PRECONDITION, text)
        handshake = to_handshake(message.handshake)
        expected = Handshake(self._store.model or handshake.model, handshake.tables, (self._store.dimension,))
        wrong = expected.mismatch(handshake)
        if wrong is None and handshake.tables:
            wrong = f"model {handshake.model[:64]!r} is split; a device learns with one that is whole"
        if wrong is not None:
            text = f"{handshake.client[:64]!r}: {wrong}"
            raise RejectedError(grpc.StatusCode.FAILED_PRECONDITION, text)
        return handshake

    def _codec(self, bits: int) -> StatisticsCodec:
        dimension = self._store.dimension
        return StatisticsCodec(dimension, bits, most_rows=most_rows(dimension))


def store_for(
    path: Path,
    halves: Mapping[str, ServerHalf],
    learned_with: Path | None = None,
    most_classes: int | None = None,
) -> PrototypeStore:
    """The prototypes of a server, from its file.

    Args:
        path: of the file; it is made where there is none.
        halves: of all models that the server has. A prototype is an output of any of them.
        learned_with: bundle of the whole model that devices learn with; by default the first push says.
        most_classes: classes are 0 to one less than this; by default any.

    Raises:
        ValueError: models whose outputs differ in width, a split one to learn with, or a file that does not
            fit.
        OSError: the file cannot be written.
    """
    learner = None if learned_with is None else load_device(learned_with)
    if learner is not None and not learner.local:
        raise ValueError(
            f"{learned_with}: {learner.spec.name} is split; devices learn with one that is whole"
        )
    widths = {half.spec.name: half.classes for half in (*halves.values(), *([learner] if learner else []))}
    if len(set(widths.values())) > 1:
        shown = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise ValueError(f"prototypes need models with outputs of one width, these have: {shown}")
    model = None if learner is None else learner.model_id
    return PrototypeStore(path, next(iter(widths.values())), model=model, most_classes=most_classes)


def _told(statistics: ClassStatistics) -> str:
    return f"{statistics.counts.sum()} samples of {len(statistics.known)} classes"
