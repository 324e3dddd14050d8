"""What is predicted of a stream's bytes, against those that a real device and server exchange on loopback."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import DeviceHalf, ModelSpec, ServerHalf, build, load_device, load_server, save
from edge.client import TailClient
from edge.link import Direction, LinkSpec
from edge.link.relay import Relay
from edge.rpc import Downlink, Timing, sample_message
from edge.server import TailServer
from edge.service import Settings
from edge.stream import Delivery, StreamRecord
from fedsim.simulator.links import transfers
from fedsim.simulator.overhead import CLOSING, opening, reply_frame_bytes, stream_bytes

PATIENCE_S = 60
SIZES = (1, 30, 127, 128, 1448, 10_000, 16_370, 16_384, 25_000, 32_756, 65_536, 100_000)
#: Written in several goes: in places where none of them ends in a short frame of its own.
LARGE = (150_528, 200_000, 300_000, 400_000)
HALF_THE_WINDOW = 1 << 19
MOST = 1_000_000
FIRST = 126  # number of the first sample: the third takes a byte more

times = st.one_of(st.integers(0, 300), st.integers(0, 2**24))


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[DeviceHalf, ServerHalf]:
    """Of a model that takes payloads of 1 MB; those of another size than its own it refuses one by one."""
    folder = tmp_path_factory.mktemp("model") / "large"
    arguments = {"widths": [4, 4, 4], "channels": 1000, "mean": [0.5] * 1000, "std": [0.5] * 1000}
    spec = ModelSpec("large", "digits-cnn", arguments, "input", None, (1000, 8, 8), "float16")
    torch.manual_seed(0)
    save(build(spec).eval(), spec, folder)
    return load_device(folder), load_server(folder)


class Exchange:
    """A server, a link of its own and a device's stream over it; what the link has carried, in the end."""

    def __init__(self, halves: tuple[DeviceHalf, ServerHalf], spec: LinkSpec, in_flight: int = 1) -> None:
        self._device, self._server = halves
        self._spec, self._in_flight = spec, in_flight
        self.records: list[StreamRecord] = []

    def run(self, ask: Callable[["Exchange"], Awaitable[None]]) -> dict[str, Any]:
        return asyncio.run(asyncio.wait_for(self._run(ask), PATIENCE_S))

    async def _run(self, ask: Callable[["Exchange"], Awaitable[None]]) -> dict[str, Any]:
        settings = Settings(wait_s=0.0, max_in_flight=16)
        server = TailServer({self._server.model_id: self._server}, settings, "127.0.0.1:0")
        await server.start()
        self.relay = Relay(self._spec, "127.0.0.1:0", server.address)
        await self.relay.start()
        handshake = self._device.handshake("camera-7")
        self.client = TailClient(
            self.relay.address, handshake, in_flight=self._in_flight, on_stream=self.records.append
        )
        self.opening = opening(self.relay.address, handshake, 16, self._server.max_payload)
        try:
            assert await self.client.connect()
            await ask(self)
            await self.client.close()
            while any(one["open"] for one in self.relay.counters()["connections"]):
                await asyncio.sleep(0.01)
            return self.relay.counters()
        finally:
            await self.relay.stop()
            await server.stop(1.0)

    def carried(self) -> dict[str, tuple[int, int]]:
        """Bytes and packets until now, in either direction."""
        counters = self.relay.counters()
        return {way: (counters[way]["stream_bytes"], counters[way]["packets"]) for way in ("up", "down")}

    async def ask(self, number: int, size: int) -> Delivery:
        delivery = await self.client.ask(number, bytes(size), PATIENCE_S)
        assert delivery.reply is not None
        assert delivery.attempts == 1
        assert delivery.frame_bytes == len(sample_message(number, bytes(size)))
        return delivery


def of_replies(deliveries: Sequence[Delivery]) -> list[int]:
    return [delivery.reply.ByteSize() for delivery in deliveries if delivery.reply is not None]


def test_one_sample_at_a_time_costs_what_is_predicted_and_so_does_the_whole_stream(
    halves: tuple[DeviceHalf, ServerHalf],
) -> None:
    deliveries: list[Delivery] = []
    exchange = Exchange(halves, LinkSpec(Direction(50e6), Direction(50e6)))

    async def ask(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)  # what the server has to say when a stream opens comes in pieces
        for number, size in enumerate(SIZES, FIRST):
            before = exchange.carried()
            deliveries.append(await exchange.ask(number, size))
            after = exchange.carried()
            spec = exchange.relay.spec
            for way, message in (("up", deliveries[-1].frame_bytes), ("down", of_replies(deliveries)[-1])):
                predicted = int(stream_bytes(message))
                assert after[way][0] - before[way][0] == predicted, (size, way)
                assert after[way][1] - before[way][1] == spec.packets(predicted), (size, way)

    counters = exchange.run(ask)
    (stream,) = exchange.records
    for way, other, messages in (
        (0, "up", [delivery.frame_bytes for delivery in deliveries]),
        (1, "down", of_replies(deliveries)),
    ):
        total = exchange.opening[way] + int(stream_bytes(messages).sum()) + CLOSING[way]
        assert counters[other]["stream_bytes"] == total
        # The kernel's own count, in which what had to be sent twice counts twice.
        if stream.traffic is not None:
            measured = (stream.traffic.bytes_sent, stream.traffic.bytes_received)[way]
            assert measured >= total
    # What the simulator puts on the link is what the relay has carried, but for how the opening is cut.
    spec = exchange.relay.spec
    framed = stream_bytes([delivery.frame_bytes for delivery in deliveries])
    predicted = int(transfers(spec, spec.up, framed, np.random.default_rng(0)).wire_bytes.sum())
    around = exchange.opening[0] + CLOSING[0]
    packets, left = divmod(counters["up"]["wire_bytes"] - predicted - around, spec.header)
    assert left == 0
    assert 3 <= packets <= 6


def test_large_messages_cost_a_frame_more_at_most(halves: tuple[DeviceHalf, ServerHalf]) -> None:
    async def ask(exchange: Exchange) -> None:
        for number, size in enumerate((*LARGE, HALF_THE_WINDOW - 100, 600_000, 800_000, MOST)):
            before = exchange.carried()
            delivery = await exchange.ask(number, size)
            after = exchange.carried()
            up = after["up"][0] - before["up"][0] - int(stream_bytes(delivery.frame_bytes))
            down = after["down"][0] - before["down"][0] - int(stream_bytes(of_replies([delivery])[0]))
            # Of a message, this many goes at most, each with a frame that may be short.
            assert up in {9 * frames for frames in range(2 + size // (1 << 17))}, size
            assert (up == 0) or size > 1 << 17
            assert down in ((0,) if size < HALF_THE_WINDOW else (0, 26)), size

    Exchange(halves, LinkSpec()).run(ask)


def test_samples_in_flight_together_share_their_updates(halves: tuple[DeviceHalf, ServerHalf]) -> None:
    deliveries: list[Delivery] = []

    async def ask(exchange: Exchange) -> None:
        sizes = np.random.default_rng(0).integers(1, 5000, 100).tolist()
        deliveries.extend(await asyncio.gather(*(exchange.ask(n, size) for n, size in enumerate(sizes))))

    exchange = Exchange(halves, LinkSpec(), in_flight=8)
    counters = exchange.run(ask)
    for way, name, messages in (
        (0, "up", [delivery.frame_bytes for delivery in deliveries]),
        (1, "down", of_replies(deliveries)),
    ):
        total = exchange.opening[way] + int(stream_bytes(messages).sum()) + CLOSING[way]
        assert total - 26 * len(messages) <= counters[name]["stream_bytes"] <= total


@pytest.mark.slow
def test_a_stream_that_is_idle_is_asked_every_ten_seconds(halves: tuple[DeviceHalf, ServerHalf]) -> None:
    async def ask(exchange: Exchange) -> None:
        sent = [await exchange.ask(0, 10)]
        before = exchange.carried()
        await asyncio.sleep(12)
        # Its window updates do not wait for the next message, which has none then.
        asked = exchange.carried()
        assert (asked["up"][0] - before["up"][0], asked["down"][0] - before["down"][0]) == (26 + 17, 17)
        sent.append(await exchange.ask(1, 10))
        after = exchange.carried()
        assert after["up"][0] - before["up"][0] == 17 + int(stream_bytes(sent[1].frame_bytes))

    Exchange(halves, LinkSpec()).run(ask)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31), st.tuples(times, times, times), st.integers(1, 300))
def test_a_reply_is_as_long_as_the_message(
    number: int, label: int, spent: tuple[int, int, int], batch: int
) -> None:
    queue, decode, tail = spent
    for scored in (True, False):
        reply = Downlink(
            sample=number,
            labels=[label],
            scores=[0.7] * scored,
            timing=Timing(queue_us=queue, decode_us=decode, tail_us=tail, batch=batch),
        )
        seconds = {"queue_s": queue / 1e6, "decode_s": decode / 1e6, "tail_s": tail / 1e6}
        found = reply_frame_bytes([number], label, **seconds, batch=batch, scored=scored)
        assert found.tolist() == [reply.ByteSize()]


def test_a_server_replies_in_so_many_bytes(tmp_path: Path) -> None:
    spec = ModelSpec("small", "digits-cnn", {"widths": [4, 4, 4]}, "input", None, (1, 8, 8), "float16")
    save(build(spec).eval(), spec, tmp_path / "small")
    halves = load_device(tmp_path / "small"), load_server(tmp_path / "small")
    replies: list[Downlink] = []

    async def ask(exchange: Exchange) -> None:
        for number in (0, 5, 200):
            reply = (await exchange.ask(number, 128)).reply
            assert reply is not None
            replies.append(reply)

    Exchange(halves, LinkSpec()).run(ask)
    for number, reply in zip((0, 5, 200), replies, strict=True):
        known = reply.timing
        spent = {"queue_s": known.queue_us, "decode_s": known.decode_us, "tail_s": known.tail_us}
        exactly = {key: us / 1e6 for key, us in spent.items()}
        assert reply_frame_bytes(number, reply.labels[0], **exactly) == reply.ByteSize()
        # Without knowing how long it took: from all times below 128 us to all above 2.1 s.
        foreseen = reply_frame_bytes(number, reply.labels[0], queue_s=1e-3, decode_s=1e-3, tail_s=1e-3)
        assert abs(int(foreseen) - reply.ByteSize()) <= 6


@given(st.lists(st.integers(0, 2 * 10**6), min_size=1, max_size=5))
def test_a_message_is_prefixed_framed_and_comes_with_two_updates(sizes: list[int]) -> None:
    for size, found in zip(sizes, stream_bytes(sizes).tolist(), strict=True):
        frames = [min(16_384, size + 5 - start) for start in range(0, size + 5, 16_384)]
        assert found == sum(9 + frame for frame in frames) + 26
