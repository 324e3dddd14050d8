"""The relay between real sockets: what passes, what does not, and what it counts."""

import asyncio
import contextlib
import socket
import time

import pytest

from edge.link import Direction, LinkError, LinkSpec, Trace
from edge.link.relay import Relay

PATIENCE_S = 20


class Echo:
    """A server that sends back what it gets, and knows how its connections ended."""

    def __init__(self):
        self.ends = []
        self.open = 0

    async def start(self, port=0):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        self.open += 1
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            self.ends.append("end")
        except ConnectionError:
            self.ends.append("reset")
        finally:
            self.open -= 1
            writer.close()


@contextlib.asynccontextmanager
async def relayed(spec, **more):
    """An echo server behind a relay."""
    echo = Echo()
    await echo.start()
    relay = Relay(spec, "127.0.0.1:0", f"127.0.0.1:{echo.port}", **more)
    await relay.start()
    try:
        yield relay, echo
    finally:
        await relay.stop()
        echo.server.close()
        await until(lambda: echo.open == 0)


async def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


async def connect(relay):
    host, _, port = relay.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def closed(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def run(check):
    asyncio.run(asyncio.wait_for(check, PATIENCE_S))


@pytest.mark.parametrize("sharing", ["alone", "processor", "fifo", "slotted"])
def test_bytes_come_back_as_they_went_and_are_counted(sharing):
    async def check():
        spec = LinkSpec(Direction(200e6, 0.001, loss=0.01), Direction(None), sharing)
        async with relayed(spec) as (relay, _):
            sizes = [1, 1448, 100_000, 600_001]

            async def client(size):
                data = bytes(n % 251 for n in range(size))
                reader, writer = await connect(relay)
                writer.write(data)
                writer.write_eof()
                assert await reader.read(-1) == data
                await closed(writer)
                return size

            assert sum(await asyncio.gather(*map(client, sizes))) == sum(sizes)
            await until(lambda: not any(c["open"] for c in relay.counters()["connections"]))
            counters = relay.counters()
            for direction in ("up", "down"):
                total = counters[direction]
                assert total["stream_bytes"] == sum(sizes)
                for name, value in total.items():
                    assert sum(c[direction][name] for c in counters["connections"]) == pytest.approx(value)
                assert total["wire_bytes"] >= total["stream_bytes"] + 66 * total["packets"]
            assert counters["up"]["transmissions"] >= counters["up"]["packets"] >= 485
            assert counters["up"]["busy_s"] >= counters["up"]["wire_bytes"] * 8 / 200e6 - 1e-9
            assert counters["down"]["busy_s"] == 0
            assert sorted(c["up"]["stream_bytes"] for c in counters["connections"]) == sizes

    run(check())


def test_nothing_comes_sooner_than_over_the_link():
    async def check():
        spec = LinkSpec(Direction(20e6, 0.01), Direction(50e6, 0.005))
        async with relayed(spec) as (relay, _):
            reader, writer = await connect(relay)
            for size in (1, 1448, 20_000, 300_000):
                began = time.perf_counter()
                writer.write(bytes(size))
                await reader.readexactly(size)
                # Answers come piecewise; the last packet's uplink, both delays, and its downlink.
                last = size % 1448 or 1448
                least = 8 * spec.wire_bytes(size) / 20e6 + 0.015 + 8 * (last + 66) / 50e6
                assert time.perf_counter() - began >= least
            await closed(writer)

    run(check())


def test_a_connection_opens_with_a_round_trip():
    async def check():
        async with relayed(LinkSpec(Direction(delay_s=0.05), Direction(delay_s=0.03))) as (relay, echo):
            began = time.perf_counter()
            reader, writer = await connect(relay)
            assert echo.open == 0
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            assert time.perf_counter() - began >= 2 * 0.08
            await closed(writer)

    run(check())


def test_the_servers_side_may_speak_first_and_close_first():
    async def check():
        async def greet(reader, writer):
            writer.write(b"welcome")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        relay = Relay(LinkSpec(), "127.0.0.1:0", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await relay.start()
        reader, writer = await connect(relay)
        assert await reader.read(-1) == b"welcome"
        await closed(writer)
        await until(lambda: not any(c["open"] for c in relay.counters()["connections"]))
        await relay.stop()
        server.close()

    run(check())


def test_a_half_close_leaves_the_other_direction_open():
    async def check():
        async with relayed(LinkSpec(Direction(1e6, 0.01), Direction(1e6, 0.01))) as (relay, echo):
            reader, writer = await connect(relay)
            writer.write(bytes(20_000))
            writer.write_eof()
            assert len(await reader.read(-1)) == 20_000
            await until(lambda: echo.ends == ["end"])
            await closed(writer)

    run(check())


def test_a_reset_passes_through_in_both_directions():
    async def check():
        async with relayed(LinkSpec()) as (relay, echo):
            reader, writer = await connect(relay)
            writer.write(b"x")
            await reader.readexactly(1)
            writer.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
            )
            writer.transport.abort()
            await until(lambda: echo.ends == ["reset"])
            await until(lambda: not relay.counters()["connections"][0]["open"])

            reader, writer = await connect(relay)
            writer.write(b"x")
            await reader.readexactly(1)
            await relay.stop()  # resets what is open
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            await closed(writer)

    run(check())


def test_while_the_server_is_away_devices_are_reset_and_later_ones_tried_again():
    async def check():
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        relay = Relay(LinkSpec(), "127.0.0.1:0", f"127.0.0.1:{port}")
        await relay.start()
        for _ in range(3):
            reader, writer = await connect(relay)
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            await closed(writer)
        assert all(c["up"]["stream_bytes"] == 0 for c in relay.counters()["connections"])
        echo = Echo()
        await echo.start(port)
        reader, writer = await connect(relay)
        writer.write(b"back")
        assert await reader.readexactly(4) == b"back"
        await closed(writer)
        await relay.stop()
        echo.server.close()

    run(check())


def test_stopping_does_not_wait_for_connections_that_are_being_opened():
    async def check():
        async with relayed(LinkSpec(Direction(delay_s=60))) as (relay, _):
            _, writer = await connect(relay)
            await until(lambda: relay.counters()["connections"])
            await relay.stop()
            assert not relay.counters()["connections"][0]["open"]
            await closed(writer)

    run(check())


@pytest.mark.parametrize("turns", range(6))
def test_stopping_ends_connections_at_whatever_point_they_are(turns):
    async def check():
        async with relayed(LinkSpec()) as (relay, _):
            _, writer = await connect(relay)
            for _ in range(turns):
                await asyncio.sleep(0)
            await relay.stop()
            assert not any(c["open"] for c in relay.counters()["connections"])
            await closed(writer)

    run(check())


def test_a_sender_has_to_wait_when_the_queue_is_full():
    async def check():
        spec = LinkSpec(Direction(8e3, queue_bytes=10_000))
        async with relayed(spec) as (relay, _):
            _, writer = await connect(relay)
            writer.transport.set_write_buffer_limits(high=0)
            writer.write(bytes(10**7))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.3)
            (connection,) = relay._connections
            assert 5_000 <= connection.near.flow.waiting <= 10_000
            # The kernel's buffers are small beside what was written, too.
            assert writer.transport.get_write_buffer_size() > 5 * 10**6
            writer.transport.abort()

    run(check())


def test_a_peer_that_does_not_read_stops_its_partner_and_takes_up_again():
    async def check():
        size = 30 * 2**20
        async with relayed(LinkSpec()) as (relay, _):
            reader, writer = await connect(relay)
            writer.write(bytes(size))
            writer.write_eof()
            await asyncio.sleep(0.3)
            (connection,) = relay._connections
            for end in (connection.near, connection.far):
                assert end._inside + end.partner.unsent < 5 * 2**20
            got = 0
            while data := await reader.read(2**20):
                got += len(data)
            assert got == size
            await closed(writer)

    run(check())


def test_a_link_changes_while_it_runs():
    async def check():
        async with relayed(LinkSpec(Direction(1e5))) as (relay, _):
            reader, writer = await connect(relay)
            writer.write(bytes(100_000))  # 8.4 s at this rate
            await asyncio.sleep(0.05)
            spec = LinkSpec(Direction(trace=Trace([0], [100e6])), sharing="fifo")
            relay.change(spec)
            assert relay.spec == spec
            began = time.perf_counter()
            await reader.readexactly(100_000)
            assert time.perf_counter() - began < 4
            with pytest.raises(LinkError, match="cannot change from fifo to alone"):
                relay.change(LinkSpec(sharing="alone"))
            await closed(writer)

    run(check())


@pytest.mark.parametrize("sharing", ["alone", "processor"])
def test_traces_begin_anew_when_asked_with_connections_open(sharing):
    async def check():
        slow_s = 0.5
        trace = Trace([0, slow_s], [1e3, 100e6], repeat=False)
        both = Direction(trace=trace)
        async with relayed(LinkSpec(both, both, sharing=sharing)) as (relay, _):
            reader, writer = await connect(relay)
            await asyncio.sleep(slow_s)
            writer.write(bytes(1448))  # the trace is fast by now, and stays so
            await reader.readexactly(1448)
            began = time.monotonic()
            relay.restart_traces()
            writer.write(bytes(1448))
            await reader.readexactly(1448)
            assert time.monotonic() - began >= slow_s
            await closed(writer)

    run(check())


def test_links_of_their_own_do_not_wait_for_each_other():
    async def check(sharing):
        spec = LinkSpec(Direction(2e6), sharing=sharing)
        async with relayed(spec) as (relay, _):

            async def client():
                reader, writer = await connect(relay)
                writer.write(bytes(14_480))
                await reader.readexactly(14_480)
                await closed(writer)

            began = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(8)))
            return time.perf_counter() - began

    alone, shared = (asyncio.run(asyncio.wait_for(check(s), PATIENCE_S)) for s in ("alone", "processor"))
    one = 8 * LinkSpec().wire_bytes(14_480) / 2e6
    assert one <= alone < shared
    assert shared >= 8 * one


def test_an_address_in_use_is_told():
    async def check():
        async with relayed(LinkSpec()) as (relay, echo):
            with pytest.raises(OSError, match=f"cannot listen on {relay.address}: .*in use"):
                await Relay(LinkSpec(), relay.address, f"127.0.0.1:{echo.port}").start()

    run(check())


def reads_in_any_case(transport, fd, callback):
    """What the event loop of Python 3.11.2 does, though its protocol has paused it when it was connected."""
    if not transport._closing:
        transport._loop._add_reader(fd, callback)


@pytest.mark.parametrize("size", [5, 300_000])
def test_what_comes_before_the_server_is_reached_is_not_lost(monkeypatch, size):
    monkeypatch.setattr(asyncio.selector_events._SelectorTransport, "_add_reader", reads_in_any_case)

    async def check():
        async with relayed(LinkSpec(Direction(delay_s=0.001))) as (relay, _):
            reach = relay._reach

            async def slowly():
                await asyncio.sleep(0.1)
                return await reach()

            monkeypatch.setattr(relay, "_reach", slowly)
            reader, writer = await connect(relay)
            sent = bytes(range(256)) * (size // 256) + b"early"
            writer.write(sent)
            writer.write_eof()
            assert await reader.read(-1) == sent
            await closed(writer)

    run(check())
