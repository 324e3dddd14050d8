"""Dynamic batching: items that arrive one by one are processed together, off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge.alarm import Alarm

__all__ = ["Batcher", "Completed"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Completed(Generic[Result]):
    """The result of one item and the seconds from its arrival until its batch began."""

    result: Result
    queue_s: float


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    arrived: float
    queued: float
    future: asyncio.Future[Completed[Result]]


class Batcher(Generic[Item, Result]):
    """Collects items into batches and runs them in a pool of threads.

    The first item opens a batch. It closes when it is full or when ``wait_s`` have passed, and begins
    as soon as a worker is free; what arrives before then still gets in. An item whose submitter has
    gone is left out.

    Args:
        process: from a batch of items to one result each, in order. Runs in ``executor``. An
            exception that it raises reaches every submitter of that batch.
        size: largest batch.
        wait_s: how long an open batch waits for more.
        executor: where ``process`` runs.
        workers: as many batches run at once; shared with the other batchers of the executor.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        size: int,
        wait_s: float,
        executor: Executor,
        workers: asyncio.Semaphore,
    ) -> None:
        self._process = process
        self._size = size
        self._wait_s = wait_s
        self._executor = executor
        self._workers = workers
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._arrival = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._collector: asyncio.Task[None] | None = None
        self._alarm: Alarm | None = None  # when the open batch closes; the loop's own timers are late by a ms

    @property
    def waiting(self) -> int:
        """Items that no batch has begun with."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to serve. Needs a running event loop."""
        if self._collector is None:
            self._alarm = Alarm(self._arrival.set) if self._wait_s else None
            self._collector = asyncio.create_task(self._collect())

    async def stop(self) -> None:
        """Cancel what waits, let the batches that run finish."""
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
            self._collector = None
        if self._alarm is not None:
            self._alarm.close()
        for waiting in self._queue:
            waiting.future.cancel()
        self._queue.clear()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def submit(self, item: Item, arrived: float | None = None) -> Completed[Result]:
        """The result of ``item``. Cancelling this takes the item out of the queue.

        Args:
            item: what to process.
            arrived: reading of ``time.perf_counter`` when it arrived; now, if it did not wait elsewhere.
        """
        future: asyncio.Future[Completed[Result]] = asyncio.get_running_loop().create_future()
        now = time.perf_counter()
        waiting = _Waiting(item, now if arrived is None else arrived, now, future)
        self._queue.append(waiting)
        self._arrival.set()
        try:
            return await future
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
            raise

    async def _collect(self) -> None:
        while True:
            await self._until_closed()
            await self._workers.acquire()
            batch = self._take()
            if not batch:
                self._workers.release()
                continue
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _until_closed(self) -> None:
        """Wait until the batch that is open now is to begin."""
        while not self._queue:
            self._arrival.clear()
            await self._arrival.wait()
        if self._alarm is None:
            return
        closes = self._queue[0].queued + self._wait_s
        while 0 < len(self._queue) < self._size and (left := closes - time.perf_counter()) > 0:
            self._arrival.clear()
            self._alarm.set(asyncio.get_running_loop().time() + left)  # the loop's clock may be another
            await self._arrival.wait()
        self._alarm.set(None)

    def _take(self) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._size:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    async def _run(self, batch: list[_Waiting[Item, Result]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            began, results = await loop.run_in_executor(self._executor, self._timed, [w.item for w in batch])
            for waiting, result in zip(batch, results, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(Completed(result, began - waiting.arrived))
        except Exception as error:  # whatever the process raises belongs to those who wait for it
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
        finally:
            self._workers.release()

    def _timed(self, items: Sequence[Item]) -> tuple[float, Sequence[Result]]:
        return time.perf_counter(), self._process(items)
