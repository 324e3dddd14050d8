"""Lets the samples of a device begin when it is their turn."""

from __future__ import annotations

import time
from itertools import count
from typing import Protocol

from edge.clock import Clock
from edge.schedule import Schedule
from edge.waiting import Waiter

__all__ = ["AtInterval", "OnSchedule", "Turns"]


class Turns(Protocol):
    """The turns of the samples, from when the object is made; made and used within one running event loop."""

    async def next(self) -> Clock:
        """Wait for the turn of the next sample; its clock, which runs."""

    def answered(self, at: float) -> None:
        """A sample has been answered, or has ended otherwise, at a reading of ``time.perf_counter``."""

    def close(self) -> None:
        """No further sample has a turn."""


class AtInterval:
    """Samples at a fixed interval; the clock of one that is late runs since when it was scheduled.

    Args:
        interval_s: 0 for samples that begin as soon as they can.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._first = time.perf_counter()
        self._positions = count()
        self._waiter = Waiter()

    async def next(self) -> Clock:
        """Wait for the turn of the next sample; its clock, which runs."""
        if not self._interval_s:
            return Clock()
        scheduled = self._first + next(self._positions) * self._interval_s
        if scheduled < time.perf_counter():
            return Clock(scheduled)
        await self._waiter.until(scheduled)
        return Clock()

    def answered(self, at: float) -> None:
        """Changes nothing."""

    def close(self) -> None:
        """No further sample has a turn."""
        self._waiter.close()


class OnSchedule:
    """Samples by a schedule: none begins before it is due, and the clock of each runs from when it begins."""

    def __init__(self, schedule: Schedule) -> None:
        self._seconds = iter(schedule.seconds.tolist())
        self._paused = schedule.paused
        self._since = time.perf_counter()  # what times and pauses count from
        self._waiter = Waiter()

    async def next(self) -> Clock:
        """Wait for the turn of the next sample; its clock, which runs and knows when the sample was due."""
        ahead = next(self._seconds)
        while (due := self._since + ahead) > time.perf_counter():
            await self._waiter.until(due)  # while others are in flight, an answer may begin a pause anew
        return Clock(due=due)

    def answered(self, at: float) -> None:
        """Pauses count from here."""
        if self._paused:
            self._since = max(self._since, at)

    def close(self) -> None:
        """No further sample has a turn."""
        self._waiter.close()
