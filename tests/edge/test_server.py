"""The tail service over real sockets: what it answers, what it refuses, what it lets go of."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge.bundle import load_device, load_server
from edge.coding.frame import checksum
from edge.rpc import (
    DESCRIBE,
    INFER,
    SERVICE,
    STREAM,
    DescribeRequest,
    Description,
    Downlink,
    Uplink,
    from_handshake,
    sample_message,
)

Code = grpc.StatusCode
GARBAGE = b"\xff\xff\xff\xff garbage"


@asynccontextmanager
async def connected(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


def hello(handshake):
    return Uplink(handshake=from_handshake(handshake)).SerializeToString()


class Stream:
    """A bare stream: bytes out, messages in."""

    def __init__(self, channel):
        self.call = channel.stream_stream(STREAM)()

    @classmethod
    async def opened(cls, channel, handshake):
        stream = cls(channel)
        await stream.call.write(hello(handshake))
        stream.welcome = (await stream.read()).welcome
        assert stream.welcome.model == handshake.model
        return stream

    async def read(self):
        raw = await self.call.read()
        assert raw is not grpc.aio.EOF
        return Downlink.FromString(raw)

    async def ask(self, message):
        await self.call.write(message)
        return await self.read()

    async def status(self):
        """How the server ended the stream, and what it had answered before."""
        answers = []
        try:
            while (raw := await self.call.read()) is not grpc.aio.EOF:
                answers.append(Downlink.FromString(raw))
        except grpc.aio.AioRpcError:
            pass
        return await self.call.code(), await self.call.details(), answers


async def describe(channel):
    raw = await channel.unary_unary(DESCRIBE)(DescribeRequest().SerializeToString())
    return Description.FromString(raw)


async def settled(channel, **expected):
    """Wait until the server describes itself so."""
    while True:
        description = await describe(channel)
        if all(getattr(description, name) == value for name, value in expected.items()):
            return
        await asyncio.sleep(0.01)


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))


def payloads(folder, count):
    device = load_device(folder)
    return device.encode(device.features(images(count)))


def logits(folder, count):
    """What device and server compute when nothing lies between them."""
    server = load_server(folder)
    return server.predict(server.decode(payloads(folder, count)))


# What it answers.


@pytest.mark.parametrize("name", ["plain", "coded"])
def test_answers_are_those_of_the_model(models, serve, name):
    expected = torch.softmax(logits(models[name], 6), dim=1).topk(3)

    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models[name]).handshake(top=3))
            for number, payload in enumerate(payloads(models[name], 6)):
                reply = await stream.ask(sample_message(number + 50, payload))
                assert (reply.sample, reply.code, reply.error) == (number + 50, 0, "")
                assert list(reply.labels) == expected.indices[number].tolist()
                assert list(reply.scores) == pytest.approx(expected.values[number].tolist(), abs=1e-5)
                assert reply.timing.batch == 1
                assert reply.timing.tail_us > 0
            await stream.call.done_writing()
            assert (await stream.status())[0] is Code.OK

    serve([models["other"], models["plain"], models["coded"]], check)


def test_samples_of_several_streams_share_a_batch(models, serve):
    expected = logits(models["plain"], 4).argmax(1).tolist()

    async def check(server):
        async with connected(server) as channel:
            handshake = load_device(models["plain"]).handshake()
            streams = [await Stream.opened(channel, handshake) for _ in range(4)]
            asked = zip(streams, payloads(models["plain"], 4), strict=True)
            replies = await asyncio.gather(*(s.ask(sample_message(9, p)) for s, p in asked))
            assert [reply.labels[0] for reply in replies] == expected
            assert {reply.timing.batch for reply in replies} == {4}

    serve([models["plain"]], check, batch=4, wait_s=10.0)


def test_a_unary_call_gets_the_same_answer_as_a_stream(models, serve):
    async def check(server):
        async with connected(server) as channel:
            handshake = load_device(models["coded"]).handshake(top=2)
            (payload,) = payloads(models["coded"], 1)
            stream = await Stream.opened(channel, handshake)
            streamed = await stream.ask(sample_message(1, payload))
            raw = await channel.unary_unary(INFER)(sample_message(1, payload, handshake))
            single = Downlink.FromString(raw)
            assert list(single.labels) == list(streamed.labels)
            assert list(single.scores) == pytest.approx(list(streamed.scores), abs=1e-6)

    serve([models["coded"]], check)


def test_it_describes_what_a_handshake_has_to_say(models, serve):
    async def check(server):
        async with connected(server) as channel:
            description = await describe(channel)
            halves = [load_server(models[name]).handshake() for name in ("plain", "coded")]
            assert list(description.models) == [from_handshake(half) for half in halves]
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            await stream.ask(sample_message(0, payloads(models["plain"], 1)[0]))
            await stream.ask(sample_message(1, b"short"))
            description = await describe(channel)
            assert (description.streams, description.waiting) == (1, 0)
            assert (description.answered, description.rejected) == (1, 1)

    serve([models["plain"], models["coded"]], check)


def test_health_and_reflection(models, serve):
    async def check(server):
        async with connected(server) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", SERVICE):
                status = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert status.status == health_pb2.HealthCheckResponse.SERVING
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
            assert (await call.read()).file_descriptor_response.file_descriptor_proto
            call.cancel()

    serve([models["plain"]], check)


# What it refuses at the handshake.


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"protocol": 7}, Code.FAILED_PRECONDITION, ["protocol", "expected 1", "got 7"]),
        ({"model": "0123456789abcdef"}, Code.FAILED_PRECONDITION, ["model", "expected", "0123456789abcdef"]),
        ({"model": "x" * 10_000}, Code.FAILED_PRECONDITION, ["model", "expected", "got 'xxxx"]),
        ({"tables": b"\x01\x02"}, Code.FAILED_PRECONDITION, ["fingerprint", "expected", "got 0102"]),
        ({"feature_shape": (3, 1, 1)}, Code.INVALID_ARGUMENT, ["shape", "expected", "got [3, 1, 1]"]),
    ],
)
@pytest.mark.parametrize("unary", [False, True])
def test_a_handshake_that_does_not_fit_is_refused(models, serve, change, code, words, unary):
    async def check(server):
        handshake = replace(load_device(models["coded"]).handshake(), **change)
        async with connected(server) as channel:
            if unary:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(INFER)(sample_message(0, b"payload", handshake))
                status = caught.value.code(), caught.value.details()
            else:
                stream = Stream(channel)
                await stream.call.write(hello(handshake))
                *status, answers = await stream.status()
                assert answers == []
            assert status[0] is code
            for word in words:
                assert word in status[1]
            await settled(channel, streams=0, rejected=1)

    serve([models["coded"]], check)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (sample_message(0, b"payload"), Code.FAILED_PRECONDITION),
        (b"", Code.FAILED_PRECONDITION),
        (GARBAGE, Code.INVALID_ARGUMENT),
        (None, Code.FAILED_PRECONDITION),
    ],
)
def test_a_stream_that_does_not_begin_with_a_handshake_is_refused(models, serve, first, code):
    async def check(server):
        async with connected(server) as channel:
            stream = Stream(channel)
            if first is None:
                await stream.call.done_writing()
            else:
                await stream.call.write(first)
            assert (await stream.status())[0] is code

    serve([models["plain"]], check)


def test_a_sample_in_the_message_of_a_streams_handshake_is_not_lost_in_silence(models, serve):
    (payload,) = payloads(models["plain"], 1)

    async def check(server):
        async with connected(server) as channel:
            stream = Stream(channel)
            await stream.call.write(sample_message(5, payload, load_device(models["plain"]).handshake()))
            code, details, answers = await stream.status()
            assert (code, answers) == (Code.INVALID_ARGUMENT, [])
            assert "handshake of a stream comes alone" in details

    serve([models["plain"]], check)


def test_a_stream_without_a_handshake_does_not_stay(models, serve, monkeypatch):
    monkeypatch.setattr("edge.service._HANDSHAKE_S", 0.3)

    async def check(server):
        async with connected(server) as channel:
            patient = await Stream.opened(channel, load_device(models["plain"]).handshake())
            silent = Stream(channel)
            code, details, _ = await asyncio.wait_for(silent.status(), 10)
            assert code is Code.DEADLINE_EXCEEDED
            assert details == "no handshake within 0.3 s"
            # Between samples a device may be silent for as long as it likes.
            reply = await patient.ask(sample_message(0, payloads(models["plain"], 1)[0]))
            assert reply.code == 0
            assert (await describe(channel)).streams == 1

    serve([models["plain"]], check)


def test_calls_are_bounded_and_health_checks_are_still_answered(models, serve):
    handshake = load_device(models["plain"]).handshake()

    async def check(server):
        async with connected(server) as channel:
            streams = [await Stream.opened(channel, handshake) for _ in range(3)]
            health = health_pb2_grpc.HealthStub(channel)
            fourth = Stream(channel)
            code, details, _ = await fourth.status()
            assert code is Code.RESOURCE_EXHAUSTED
            assert details == "3 calls are open, the most that are allowed"
            status = await health.Check(health_pb2.HealthCheckRequest())
            assert status.status == health_pb2.HealthCheckResponse.SERVING
            await streams[0].call.done_writing()
            assert (await streams[0].status())[0] is Code.OK
            await Stream.opened(channel, handshake)

    serve([models["plain"]], check, max_calls=3)


def test_one_connection_cannot_take_all_calls(models, serve):
    handshake = load_device(models["plain"]).handshake()

    async def check(server):
        async with connected(server) as channel:
            calls = [channel.stream_stream(STREAM)() for _ in range(140)]
            async with grpc.aio.insecure_channel(
                server.address, options=[("grpc.use_local_subchannel_pool", 1)]
            ) as other:
                await settled(other, streams=128)
                await asyncio.sleep(0.2)
                assert (await describe(other)).streams == 128
                assert (await Stream.opened(other, handshake)).welcome.max_in_flight
            for call in calls:
                call.cancel()

    serve([models["plain"]], check)


# What it refuses of a sample, while the stream goes on.


def damaged(payload):
    return bytes([payload[0] ^ 0x10]) + payload[1:]


def faults(payload, limit):
    good = checksum(3, payload)
    return [
        (Uplink(sample=3, payload=payload, checksum=good ^ 1), 3, "checksum"),
        (Uplink(sample=3, payload=damaged(payload), checksum=good), 3, "checksum"),
        (Uplink(sample=4, payload=payload, checksum=good), 3, "checksum"),
        (Uplink(sample=3, payload=payload[:-1], checksum=good), 3, "checksum"),
        (Uplink(sample=3, payload=b"", checksum=checksum(3, b"")), 3, "empty"),
        (Uplink(sample=3, payload=payload[:-1], checksum=checksum(3, payload[:-1])), 3, "decode"),
        (
            Uplink(sample=3, payload=b"\xff" * len(payload), checksum=checksum(3, b"\xff" * len(payload))),
            3,
            "decode",
        ),
        (
            Uplink(sample=3, payload=bytes(limit + 1), checksum=checksum(3, bytes(limit + 1))),
            8,
            f"at most {limit}",
        ),
    ]


def test_a_faulty_sample_is_refused_and_its_stream_goes_on(models, serve):
    (payload,) = payloads(models["plain"], 1)
    label = int(logits(models["plain"], 1).argmax())

    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            for message, code, word in faults(payload, stream.welcome.max_payload):
                reply = await stream.ask(message.SerializeToString())
                assert (reply.sample, reply.code, list(reply.labels)) == (message.sample, code, [])
                assert word in reply.error
                reply = await stream.ask(sample_message(5, payload))
                assert (reply.code, list(reply.labels)) == (0, [label])

    serve([models["plain"]], check)


def test_a_faulty_sample_in_a_unary_call_is_its_status(models, serve):
    (payload,) = payloads(models["plain"], 1)
    half = load_server(models["plain"])

    async def check(server):
        async with connected(server) as channel:
            infer = channel.unary_unary(INFER)
            for message, code, word in faults(payload, half.max_payload):
                message.handshake.CopyFrom(from_handshake(half.handshake()))
                with pytest.raises(grpc.aio.AioRpcError, match=word) as caught:
                    await infer(message.SerializeToString())
                assert caught.value.code().value[0] == code
            for garbage in (GARBAGE, b"\x22\x05abc"):
                with pytest.raises(grpc.aio.AioRpcError, match="are no fedsim") as caught:
                    await infer(garbage)
                assert caught.value.code() is Code.INVALID_ARGUMENT

    serve([models["plain"]], check)


def test_one_bad_payload_does_not_spoil_its_batch(models, serve):
    good = payloads(models["plain"], 3)
    expected = logits(models["plain"], 3).argmax(1).tolist()

    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            for number, payload in enumerate([*good, b"bad"]):
                await stream.call.write(sample_message(number, payload))
            replies = [await stream.read() for _ in range(4)]
            replies.sort(key=lambda reply: reply.sample)
            assert [reply.code for reply in replies] == [0, 0, 0, 3]
            assert [reply.labels[0] for reply in replies[:3]] == expected
            assert {reply.timing.batch for reply in replies[:3]} == {4}

    serve([models["plain"]], check, batch=4, wait_s=10.0)


# What ends a stream, and only that one.


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (GARBAGE, Code.INVALID_ARGUMENT),
        (b"\x0a", Code.INVALID_ARGUMENT),
        ("hello", Code.INVALID_ARGUMENT),
        (bytes(1 << 20), Code.RESOURCE_EXHAUSTED),
    ],
)
def test_a_fault_of_the_conversation_ends_that_stream_only(models, serve, message, code):
    (payload,) = payloads(models["plain"], 1)
    handshake = load_device(models["plain"]).handshake()

    async def check(server):
        async with connected(server) as channel:
            victim, bystander = [await Stream.opened(channel, handshake) for _ in range(2)]
            assert (await victim.ask(sample_message(1, payload))).code == 0
            await victim.call.write(hello(handshake) if message == "hello" else message)
            assert (await victim.status())[0] is code
            assert (await bystander.ask(sample_message(1, payload))).code == 0
            await settled(channel, streams=1, waiting=0)

    serve([models["plain"]], check)


def test_what_came_before_the_garbage_is_answered(models, serve):
    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            for number, payload in enumerate(payloads(models["plain"], 3)):
                await stream.call.write(sample_message(number, payload))
            await stream.call.write(GARBAGE)
            code, details, answers = await stream.status()
            assert code is Code.INVALID_ARGUMENT
            assert "no fedsim.edge.v1.Uplink message" in details
            assert sorted(answer.sample for answer in answers) == [0, 1, 2]

    serve([models["plain"]], check, wait_s=0.05)


def test_the_queue_has_the_wait_for_room_in_it(models, serve):
    (payload,) = payloads(models["plain"], 1)

    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            for number in range(4):
                await stream.call.write(sample_message(number, payload))
            replies = [await stream.read() for _ in range(4)]
            for turn, reply in enumerate(replies, start=1):
                assert reply.timing.queue_us >= turn * 95_000

    serve([models["plain"]], check, max_waiting=1, wait_s=0.1)


# Bounds, and what is let go.


def test_a_stream_is_not_read_beyond_its_share(models, serve):
    (payload,) = payloads(models["plain"], 1)

    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            assert stream.welcome.max_in_flight == 3
            for number in range(5):
                await stream.call.write(sample_message(number, payload))
            await settled(channel, waiting=3)
            await asyncio.sleep(0.1)
            assert (await describe(channel)).waiting == 3
            replies = [await stream.read() for _ in range(5)]
            assert sorted(reply.sample for reply in replies) == list(range(5))

    serve([models["plain"]], check, max_in_flight=3, batch=8, wait_s=1.0)


def test_a_device_that_goes_away_leaves_nothing_behind(models, serve):
    (payload,) = payloads(models["plain"], 1)

    async def check(server):
        async with connected(server) as watcher:
            async with connected(server) as channel:
                stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
                for number in range(4):
                    await stream.call.write(sample_message(number, payload))
                await settled(watcher, streams=1, waiting=4)
            await settled(watcher, streams=0, waiting=0)
            assert (await describe(watcher)).answered == 0

    serve([models["plain"]], check, batch=8, wait_s=30.0)


def test_shutting_down_answers_what_was_received(models, serve):
    (payload,) = payloads(models["plain"], 1)

    async def check(server):
        async with connected(server) as channel:
            stream = await Stream.opened(channel, load_device(models["plain"]).handshake())
            for number in range(4):
                await stream.call.write(sample_message(number, payload))
            await settled(channel, waiting=4)
            stopping = asyncio.create_task(server.stop(10.0))
            code, details, answers = await stream.status()
            await stopping
            assert (code, details) == (Code.UNAVAILABLE, "shutting down")
            assert sorted(answer.sample for answer in answers if not answer.code) == [0, 1, 2, 3]

    serve([models["plain"]], check, batch=8, wait_s=1.0)
