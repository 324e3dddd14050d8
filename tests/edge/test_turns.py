"""Turns: pauses while several samples are in flight, and waiting that was given up."""

import asyncio
import time

import numpy as np
import pytest

from edge.schedule import Schedule
from edge.turns import OnSchedule
from edge.waiting import Waiter


def test_an_answer_during_a_pause_begins_it_anew():
    async def run():
        turns = OnSchedule(Schedule(np.array([0.0, 0.2]), paused=True))
        first = await turns.next()
        second = asyncio.create_task(turns.next())
        await asyncio.sleep(0.1)
        answered = time.perf_counter()
        turns.answered(answered)
        turns.answered(first.began)  # of a sample that ended before the last one: its news is old
        clock = await second
        turns.close()
        assert clock.due == pytest.approx(answered + 0.2, abs=1e-9)
        assert clock.began >= clock.due

    asyncio.run(run())


def test_waiting_is_never_over_early_and_can_be_given_up():
    async def run():
        waiter = Waiter()
        for ahead in (-1.0, 0.0, 1e-6, 1e-4, 0.003, 0.02):
            at = time.perf_counter() + ahead
            await waiter.until(at)
            assert time.perf_counter() >= at
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiter.until(time.perf_counter() + 60), 0.01)
        at = time.perf_counter() + 0.02
        await waiter.until(at)
        assert time.perf_counter() >= at
        waiter.close()

    asyncio.run(run())
