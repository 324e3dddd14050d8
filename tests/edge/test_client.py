"""A device's client against real servers behind links that are slow, cut, or lead to the wrong peer."""

import asyncio
import math
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
import torch

from edge.bundle import load_device, load_server
from edge.client import TailClient
from edge.rpc import SERVICE, Downlink, Welcome
from edge.server import TailServer
from edge.service import Settings
from edge.sockets import SocketCounter

PATIENCE_S = 30


class Relay:
    """A TCP relay that delays every byte, in both directions, and the making of a connection."""

    def __init__(self, target, delay_s=0.0, accept_s=0.0):
        self._host, _, self._port = target.rpartition(":")
        self._delay_s = delay_s
        self._accept_s = accept_s
        self._writers = []
        self._tasks = set()
        #: Cleared, it reads no more.
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self):
        """Break all connections that there are."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accepted(self, reader, writer):
        await asyncio.sleep(self._accept_s)
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            late = asyncio.Queue()
            for work in (self._take(source, late), self._give(late, sink)):
                task = asyncio.create_task(work)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _take(self, source, late):
        data = b"x"
        while data:
            await self.flowing.wait()
            try:
                data = await source.read(65536)
            except ConnectionError:
                data = b""
            late.put_nowait((time.monotonic() + self._delay_s, data))

    async def _give(self, late, sink):
        while True:
            due, data = await late.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                sink.close()
                return
            sink.write(data)


@asynccontextmanager
async def asking(address, half, **options):
    """A client and the list into which the records of its streams go."""
    records = []
    client = TailClient(address, half.handshake("test"), on_stream=records.append, **options)
    client.records = records
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
def plain(models):
    return load_device(models["plain"])


@pytest.fixture
def payload(plain):
    return bytes(4 * math.prod(plain.feature_shape))


def answered(delivery):
    return delivery.reply is not None and delivery.reply.code == 0


def counters():
    """Whether this system has the counters of a socket."""
    import socket

    with socket.socket() as probe, SocketCounter(probe.fileno()) as counter:
        return counter.read() is not None


needs_counters = pytest.mark.skipif(not counters(), reason="needs the byte counters of Linux's TCP sockets")


def test_a_stream_that_takes_longer_to_open_than_a_sample_may_take_opens_in_the_end(
    models, serve, plain, payload
):
    async def check(server):
        async with (
            Relay(server.address, delay_s=0.02, accept_s=0.5) as relay,
            asking(relay.address, plain) as client,
        ):
            assert await client.connect()
            assert answered(await client.ask(0, payload, 0.25))
            relay.cut()
            outcomes = [answered(await client.ask(number, payload, 0.25)) for number in range(1, 10)]
            assert not outcomes[0]
            assert outcomes[5:] == [True] * 4

    serve([models["plain"]], check, wait_s=0.0)


@needs_counters
def test_a_reply_that_comes_too_late_is_nobodys(models, serve, plain, payload):
    """Neither is it computed nor are its bytes those of the next sample."""

    async def check(server):
        async with asking(server.address, plain) as client:
            late = await client.ask(0, payload, 0.1)
            assert (late.reply, late.attempts) == (None, 1)
            assert late.traffic.wire_sent > len(payload)
            async with asyncio.timeout(5):
                while server.service._waiting:
                    await asyncio.sleep(0.01)
            answers = [await client.ask(number, payload, 20) for number in (1, 2)]
            assert all(map(answered, answers))
            assert answers[0].traffic.bytes_received < 1.5 * answers[1].traffic.bytes_received
            assert server.service._answered == 2
        assert [record.detail for record in client.records] == ["the server did not answer in time", None]
        # The first stream carried the late sample.
        assert client.records[0].traffic.wire_sent > late.traffic.wire_sent

    serve([models["plain"]], check, wait_s=0.4)


def test_a_deadline_that_passes_takes_no_other_sample_along(models, serve, plain, payload):
    async def check(server):
        async with asking(server.address, plain, in_flight=2) as client:
            short, long = await asyncio.gather(client.ask(0, payload, 0.1), client.ask(1, payload, 20))
            assert short.reply is None
            assert answered(long)
            assert long.attempts == 1
        assert [record.detail for record in client.records] == [None]

    serve([models["plain"]], check, wait_s=0.4)


def test_what_was_not_sent_by_its_deadline_is_not_sent(models, serve, plain):
    big = bytes(load_server(models["plain"]).max_payload)  # no valid payload, but one that may be sent

    async def check(server):
        async with (
            Relay(server.address) as relay,
            asking(relay.address, plain, in_flight=400) as client,
        ):
            await client.connect()
            relay.flowing.clear()
            # More than the windows of HTTP/2 hold.
            deliveries = await asyncio.gather(*(client.ask(number, big, 1.0) for number in range(400)))
            assert {(sent.attempts, sent.frame_bytes > len(big)) for sent in deliveries} == {
                (1, True),
                (0, False),
            }
            assert {unsent.frame_bytes for unsent in deliveries if not unsent.attempts} == {0}

    serve([models["plain"]], check, wait_s=30.0, max_in_flight=400)


@needs_counters
def test_a_refusal_on_reconnection_keeps_the_bytes_that_were_sent(models, plain, payload):
    async def main():
        before = await _serving(models["plain"], wait_s=30.0)
        async with asking(before.address, plain) as client:
            asked = asyncio.create_task(client.ask(0, payload, 20))
            async with asyncio.timeout(10):
                while not before.service._waiting:
                    await asyncio.sleep(0.01)
            await before._server.stop(0)
            after = await _serving(models["other"], listen=before.address)
            delivery = await asyncio.wait_for(asked, 20)
            assert delivery.reply is None
            assert "model id: expected" in delivery.detail
            assert client.refused in delivery.detail
            assert (delivery.attempts, delivery.frame_bytes > len(payload)) == (1, True)
            assert delivery.traffic.wire_sent > delivery.frame_bytes
            again = await client.ask(1, payload, 20)
            assert (again.attempts, again.detail) == (0, delivery.detail)
        await after.stop(1.0)
        await before.service.stop()
        assert len(client.records) >= 2
        refused = client.records[-1]
        assert "model id: expected" in refused.detail
        assert refused.traffic.wire_sent > 200  # the handshake at least

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


async def _serving(folder, listen="127.0.0.1:0", **settings):
    half = load_server(folder)
    server = TailServer({half.model_id: half}, Settings(**settings), listen)
    await server.start()
    return server


def test_attempts_that_reach_nobody_are_on_record(plain, payload):
    async def main():
        async with asking("127.0.0.1:1", plain) as client:
            assert not await client.connect()
            delivery = await client.ask(0, payload, 0.3)
            assert "no answer within 0.3 s: UNAVAILABLE" in delivery.detail
        assert len(client.records) >= 2
        for record in client.records[:-1]:
            assert "UNAVAILABLE" in record.detail
            assert record.traffic is None

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"labels": [3]}, "no welcome"),
        ({"welcome": {"protocol": 7}}, "protocol version: expected 1, got 7"),
        ({"welcome": {"model": "0123456789abcdef"}}, "got '0123456789abcdef'"),
    ],
)
def test_a_welcome_that_does_not_fit_is_a_refusal(plain, payload, answer, words):
    fitting = Welcome(protocol=1, model=plain.model_id, max_in_flight=4, max_payload=1 << 20)
    for field, value in answer.get("welcome", {}).items():
        setattr(fitting, field, value)
    first = Downlink(labels=answer["labels"]) if "labels" in answer else Downlink(welcome=fitting)

    async def respond(_, context):
        await context.read()
        await context.write(first.SerializeToString())
        await context.read()

    async def main():
        server = grpc.aio.server()
        handlers = {"Stream": grpc.stream_stream_rpc_method_handler(respond)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with asking(f"127.0.0.1:{port}", plain) as client:
            assert not await client.connect()
            assert words in client.refused
            delivery = await client.ask(0, payload, 5)
            assert words in delivery.detail
        await server.stop(0)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_features_out_of_all_bounds_are_answered(models, serve):
    """A diverged head, a broken sensor: what encodes is a valid payload."""
    half = load_device(models["coded"])
    shape = half.feature_shape
    spike = torch.zeros(shape)
    spike.view(-1)[7] = 1e30
    odd = torch.arange(math.prod(shape)).view(shape) % 2 == 1
    mixed = torch.where(odd, 1e30, -1e-30)
    features = [torch.full(shape, 1e30), torch.full(shape, -1e30), spike, -spike, mixed, torch.zeros(shape)]

    async def check(server):
        async with asking(server.address, half) as client:
            for number, sample in enumerate(features):
                (payload,) = half.encode(sample[None])
                delivery = await client.ask(number, payload, 20)
                assert answered(delivery), (number, delivery.detail, delivery.reply)

    serve([models["coded"]], check)


def test_the_handshake_of_a_client_is_that_of_its_half(models, serve, plain):
    """Another shape is refused at once, and by name."""

    async def check(server):
        handshake = replace(plain.handshake(), feature_shape=(1, 2, 3))
        client = TailClient(server.address, handshake)
        assert not await client.connect()
        await client.close()
        assert "feature shape: expected" in client.refused

    serve([models["plain"]], check)
