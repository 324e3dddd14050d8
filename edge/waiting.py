"""Waiting for a moment in an event loop, closer than its own timers come."""

from __future__ import annotations

import asyncio
import time

from edge.alarm import Alarm

__all__ = ["Waiter"]


class Waiter:
    """Waits until a reading of ``time.perf_counter``; made, used and closed within one running event loop.

    Where the system has timers that are files it comes back some tens of microseconds late, elsewhere up to
    a millisecond or two, and nowhere early. One task may wait at a time.
    """

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._ring)

    async def until(self, at: float) -> None:
        """Come back when ``time.perf_counter()`` reads ``at`` or later; at once where it does already."""
        while (ahead := at - time.perf_counter()) > 0:
            loop = asyncio.get_running_loop()
            self._rung = loop.create_future()
            self._alarm.set(loop.time() + ahead)  # the loop's clock may be another
            await self._rung

    def close(self) -> None:
        """Give the timer back. Nobody may be waiting."""
        self._alarm.close()

    def _ring(self) -> None:
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)
