"""The processor of a device: what computes the stages of its samples, and how long they last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar

from edge.clock import Clock
from edge.pace import Pace
from edge.waiting import Waiter

__all__ = ["Processor"]

T = TypeVar("T")


class Processor:
    """Computes one thing at a time, at a pace; made, used and closed within one running event loop.

    Args:
        pace: what stages are to last.
        aside: compute in a thread of its own, so that the event loop goes on meanwhile: where other samples
            are in flight, their replies are seen on time.
    """

    def __init__(self, pace: Pace, aside: bool) -> None:
        self._pace = pace
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="head") if aside else None
        self._taken = asyncio.Lock()
        self._waiter = Waiter()  # of who has taken the processor

    def taken(self) -> AbstractAsyncContextManager[Any]:
        """For one sample, until its stages here are over: a slower device would not begin another's."""
        return self._taken if self._pace else nullcontext()

    async def stage(self, clock: Clock, name: str, function: Callable[[Any], T], argument: Any) -> T:
        """Compute a stage and enter it into ``clock``; wait out what it is to last."""

        def run(value: Any) -> tuple[float, float, T]:
            start = time.perf_counter()
            result = function(value)
            return start, time.perf_counter() - start, result

        start, duration, result = await self.compute(run, argument)
        target = self._pace.target(name)
        in_time = target is not None and duration <= target
        if target is not None and in_time:
            await self._waiter.until(start + target)
            duration = time.perf_counter() - start
        clock.add(name, start, duration, modelled=in_time)
        return result

    async def compute(self, function: Callable[[Any], T], argument: Any) -> T:
        """Compute something that is no stage."""
        if self._executor is None:
            return function(argument)
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, argument)

    def close(self) -> None:
        """Wait until what is being computed is through."""
        if self._executor is not None:
            self._executor.shutdown()
        self._waiter.close()
