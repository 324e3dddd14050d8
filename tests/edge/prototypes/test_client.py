"""A device's end of the calls: a reply that is lost, a server that is away, a server that refuses."""

import asyncio
import contextlib
import socket

import numpy as np
import pytest

from edge.bundle import load_device
from edge.prototypes import ClassStatistics, StatisticsCodec, StatisticsError
from edge.prototypes.client import get_prototypes, push_statistics
from edge.prototypes.store import PrototypeStore
from edge.rpc import statistics_message
from edge.stream import LostError, RefusedError

WIDTH = 16
PUSH = bytes(range(16))


def some(count=40, classes=6):
    generator = np.random.default_rng(0)
    return ClassStatistics.of(generator.normal(size=(count, WIDTH)), generator.integers(0, classes, count))


@pytest.fixture
def learning(serve, spaces, tmp_path):
    """Runs ``check(address, store, handshake)`` against a server that learns."""

    def run(check, **settings):
        store = PrototypeStore(tmp_path / "prototypes", WIDTH, **settings)
        handshake = load_device(spaces["whole"]).handshake("camera 7")
        try:
            serve(
                [spaces["split"]],
                lambda server: check(server.address, store, handshake),
                server={"prototypes": store},
            )
        finally:
            store.close()

    return run


@contextlib.asynccontextmanager
async def between(address, passes):
    """A port that leads to ``address``; a connection ends when ``passes()`` does not hold for a reply."""
    host, _, port = address.rpartition(":")
    writers = []

    async def pump(reader, writer, allowed):
        with contextlib.suppress(ConnectionError):
            while (data := await reader.read(1 << 16)) and allowed():
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accepted(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        writers.extend([writer, inner_writer])
        back = asyncio.create_task(pump(inner_reader, writer, passes))
        await pump(reader, inner_writer, lambda: True)
        await back

    proxy = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        proxy.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.05)  # for the pumps to see it


@pytest.mark.parametrize("bits", [5, 32, 64])
def test_a_push_says_what_it_cost_and_what_is_known(learning, bits):
    async def check(address, store, handshake):
        pushed = await push_statistics(address, handshake, PUSH, some(), bits=bits)
        encoded = StatisticsCodec(WIDTH, bits).encode(some())
        assert (pushed.counted, pushed.classes, pushed.samples, pushed.attempts) == (True, 6, 40, 1)
        assert (pushed.payload_bytes, pushed.ideal_bits) == (len(encoded.payload), encoded.ideal_bits)
        frame = statistics_message(handshake, PUSH, bits, encoded.payload)
        assert pushed.frame_bytes == len(frame)
        assert 0 < pushed.frame_bytes - pushed.payload_bytes < 80
        found = await get_prototypes(address, handshake, bits=64)
        expected = StatisticsCodec(WIDTH, bits).decode(encoded.payload)
        assert np.array_equal(found.sums, expected.sums)
        assert found.counts.tolist() == some().counts.tolist()

    learning(check)


def test_a_push_whose_reply_is_lost_is_repeated_and_counts_once(learning):
    lost = []

    async def check(address, store, handshake):
        def passes():
            """No reply comes through once the push is counted, but to the second connection."""
            if store.prototypes is not None and not lost:
                lost.append(True)
                return False
            return True

        async with between(address, passes) as proxied:
            pushed = await push_statistics(proxied, handshake, PUSH, some(), bits=64)
        assert lost == [True]
        assert (pushed.attempts, pushed.counted) == (2, False)
        assert pushed.frame_bytes > 2 * pushed.payload_bytes
        assert (pushed.classes, pushed.samples) == (6, 40)
        assert np.array_equal(store.statistics.counts, some().counts)
        assert np.array_equal(store.statistics.sums, some().sums)

    learning(check)


def test_a_server_that_comes_late_is_waited_for(learning):
    async def check(address, store, handshake):
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        waiting = asyncio.create_task(
            push_statistics(f"127.0.0.1:{port}", handshake, PUSH, some(), deadline_s=30)
        )
        await asyncio.sleep(0.3)
        host, _, real = address.rpartition(":")

        async def lead(reader, writer):
            inner_reader, inner_writer = await asyncio.open_connection(host, int(real))

            async def pump(source, sink):
                with contextlib.suppress(ConnectionError):
                    while data := await source.read(1 << 16):
                        sink.write(data)
                sink.close()

            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

        late = await asyncio.start_server(lead, "127.0.0.1", port)
        pushed = await waiting
        late.close()
        assert pushed.counted
        assert pushed.attempts > 1
        assert store.statistics.counts.sum() == 40

    learning(check)


def test_without_a_server_it_ends_at_its_deadline(spaces):
    handshake = load_device(spaces["whole"]).handshake()
    for call in (
        push_statistics("127.0.0.1:1", handshake, PUSH, some(), deadline_s=0.3),
        get_prototypes("127.0.0.1:1", handshake, deadline_s=0.3),
    ):
        with pytest.raises(LostError, match=r"no answer within 0\.3 s: UNAVAILABLE"):
            asyncio.run(call)


def test_a_server_that_does_not_answer_is_left_at_the_deadline(spaces):
    handshake = load_device(spaces["whole"]).handshake()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LostError, match=r"no answer within 0\.3 s"):
            asyncio.run(push_statistics(address, handshake, PUSH, some(), deadline_s=0.3))


def test_a_refusal_is_not_repeated(learning):
    async def check(address, store, handshake):
        with pytest.raises(
            RefusedError, match="INVALID_ARGUMENT: statistics of 'camera 7': class 5 is unknown"
        ):
            await push_statistics(address, handshake, PUSH, some(), deadline_s=60)
        assert store.prototypes is None
        pushed = await push_statistics(address, handshake, PUSH, some().of_classes(range(5)))
        assert pushed.counted

    learning(check, most_classes=5)


def test_what_does_not_fit_is_told_before_anything_is_sent(spaces):
    handshake = load_device(spaces["whole"]).handshake()

    def push(statistics, **settings):
        asyncio.run(push_statistics("127.0.0.1:1", handshake, PUSH, statistics, **settings))

    with pytest.raises(ValueError, match="bits are 17, allowed are 1 to 16, 32 and 64"):
        push(some(), bits=17)
    with pytest.raises(StatisticsError, match="features have 3 values, expected 16"):
        push(ClassStatistics.of(np.ones((1, 3)), [0]))
    many = ClassStatistics.of(np.zeros((65_537, WIDTH)), np.arange(65_537))
    with pytest.raises(StatisticsError, match="65537 rows, a message has at most 65536"):
        push(many)
