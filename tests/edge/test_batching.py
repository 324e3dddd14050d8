"""Batches: how they form, what an error or a submitter's absence does."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from edge.batching import Batcher


@asynccontextmanager
async def batching(process, *, size=4, wait_s=0.0, workers=1):
    with ThreadPoolExecutor(workers) as executor:
        batcher = Batcher(
            process, size=size, wait_s=wait_s, executor=executor, workers=asyncio.Semaphore(workers)
        )
        batcher.start()
        try:
            yield batcher
        finally:
            await batcher.stop()


def test_every_item_gets_its_own_result_in_batches_of_bounded_size():
    sizes = []

    def double(items):
        sizes.append(len(items))
        return [2 * item for item in items]

    async def main():
        async with batching(double, wait_s=0.01) as batcher:
            return await asyncio.gather(*(batcher.submit(i) for i in range(10)))

    completed = asyncio.run(main())
    assert [c.result for c in completed] == [2 * i for i in range(10)]
    assert sizes == [4, 4, 2]
    assert all(c.queue_s >= 0 for c in completed)


def test_a_lone_item_does_not_wait_for_a_full_batch():
    async def main():
        async with batching(list, size=100, wait_s=0.02) as batcher:
            return await asyncio.wait_for(batcher.submit("a"), 5)

    completed = asyncio.run(main())
    assert completed.result == "a"
    assert completed.queue_s >= 0.02


def test_an_item_that_waited_elsewhere_says_since_when():
    async def main():
        async with batching(list, wait_s=0.02) as batcher:
            return await batcher.submit("a", time.perf_counter() - 5)

    assert 5.02 <= asyncio.run(main()).queue_s < 15


def test_items_that_arrive_while_all_workers_are_busy_share_the_next_batch():
    release, sizes = threading.Event(), []

    def slow(items):
        sizes.append(len(items))
        release.wait(10)
        return items

    async def main():
        async with batching(slow) as batcher:
            first = asyncio.create_task(batcher.submit(0))
            while not sizes:
                await asyncio.sleep(0.001)
            rest = [asyncio.create_task(batcher.submit(i)) for i in (1, 2, 3)]
            await asyncio.sleep(0.01)
            assert batcher.waiting == 3
            release.set()
            await asyncio.gather(first, *rest)
            assert batcher.waiting == 0

    asyncio.run(main())
    assert sizes == [1, 3]


def test_a_submitter_that_leaves_takes_its_item_along():
    release, seen = threading.Event(), []

    def slow(items):
        seen.extend(items)
        release.wait(10)
        return items

    async def main():
        async with batching(slow) as batcher:
            first = asyncio.create_task(batcher.submit("first"))
            while not seen:
                await asyncio.sleep(0.001)
            gone, kept = (asyncio.create_task(batcher.submit(name)) for name in ("gone", "kept"))
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            assert batcher.waiting == 1
            release.set()
            await asyncio.gather(first, kept)

    asyncio.run(main())
    assert seen == ["first", "kept"]


def test_an_error_reaches_the_submitters_of_its_batch_and_no_others():
    def fragile(items):
        if "bad" in items:
            raise RuntimeError("no good")
        return items

    async def main():
        async with batching(fragile, size=2, wait_s=0.01) as batcher:
            tasks = [asyncio.create_task(batcher.submit(i)) for i in ("a", "bad", "b", "c")]
            return await asyncio.gather(*tasks, return_exceptions=True)

    a, bad, b, c = asyncio.run(main())
    assert isinstance(a, RuntimeError)
    assert isinstance(bad, RuntimeError)
    assert (b.result, c.result) == ("b", "c")


def test_stopping_ends_the_wait_of_those_who_still_wait():
    async def main():
        async with batching(list, wait_s=60) as batcher:
            waiting = asyncio.create_task(batcher.submit(1))
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
