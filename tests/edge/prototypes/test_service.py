"""Prototypes over real sockets: what is counted, what is classified, what is refused, whom it is told."""

import asyncio
import zlib
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
import torch

from edge.bundle import load_device, load_server
from edge.coding.frame import Handshake
from edge.prototypes import ClassStatistics, Prototypes, StatisticsCodec
from edge.prototypes.limits import most_bytes
from edge.prototypes.service import store_for
from edge.prototypes.store import PrototypeStore
from edge.rpc import (
    DESCRIBE,
    GET_PROTOTYPES,
    INFER,
    PUSH_STATISTICS,
    STREAM,
    Description,
    Downlink,
    PrototypesReply,
    PrototypesRequest,
    StatisticsMessage,
    StatisticsReply,
    Uplink,
    from_handshake,
    sample_message,
    statistics_message,
)

WIDTH = 16
Code = grpc.StatusCode
GARBAGE = b"\xff\xff\xff\xff garbage"
PUSH = bytes(range(16))


@pytest.fixture
def learning(serve, spaces, tmp_path):
    """Runs ``check(server, channel, store)`` against a server that serves ``split`` and learns."""

    def run(check, **settings):
        store = PrototypeStore(tmp_path / "prototypes", WIDTH, **settings)

        async def checked(server):
            async with connected(server) as channel:
                await check(server, channel, store)

        try:
            serve([spaces["split"]], checked, server={"prototypes": store})
        finally:
            store.close()

    return run


@asynccontextmanager
async def connected(server):
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        yield channel


def counted(features, labels):
    return ClassStatistics.of(features, labels)


def message(handshake, statistics, push=PUSH, bits=32):
    payload = StatisticsCodec(statistics.dimension, bits).encode(statistics).payload
    return statistics_message(handshake, push, bits, payload)


async def push(channel, raw):
    return StatisticsReply.FromString(await channel.unary_unary(PUSH_STATISTICS)(raw))


async def refusal(channel, method, raw):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(method)(raw)
    return caught.value.code(), caught.value.details()


async def known(channel, handshake, bits=64):
    request = PrototypesRequest(handshake=from_handshake(handshake), bits=bits).SerializeToString()
    reply = PrototypesReply.FromString(await channel.unary_unary(GET_PROTOTYPES)(request))
    assert reply.bits == (bits or 32)
    return StatisticsCodec(WIDTH, reply.bits).decode(reply.statistics)


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))


def features_of(folder, count):
    return load_device(folder).features(images(count)).numpy()


def payloads_of(folder, count):
    device = load_device(folder)
    return device.encode(device.features(images(count)))


def test_samples_are_classified_by_the_nearest_prototype(learning, spaces):
    features = features_of(spaces["whole"], 40)
    labels = np.arange(40) % 4 + 700
    prototypes = Prototypes.of(counted(features, labels))
    expected = prototypes.nearest(features)
    assert len(set(expected.tolist())) == 4

    async def check(_, channel, store):
        device, learner = load_device(spaces["split"]), load_device(spaces["whole"])
        await push(channel, message(learner.handshake("one"), counted(features[:20], labels[:20]), bits=64))
        reply = await push(
            channel,
            message(learner.handshake("two"), counted(features[20:], labels[20:]), bytes(16), bits=64),
        )
        assert (reply.counted, reply.classes, reply.samples) == (True, 4, 40)
        call = channel.stream_stream(STREAM)()
        await call.write(Uplink(handshake=from_handshake(device.handshake(top=3))).SerializeToString())
        assert Downlink.FromString(await call.read()).welcome.model == device.model_id
        for number, payload in enumerate(payloads_of(spaces["split"], 40)):
            await call.write(sample_message(number, payload))
            downlink = Downlink.FromString(await call.read())
            assert (downlink.sample, downlink.code, list(downlink.scores)) == (number, 0, [])
            assert list(downlink.labels) == [expected[number]]  # one, whatever `top` asks for
        await call.done_writing()
        found = await known(channel, learner.handshake())
        assert np.array_equal(found.counts, store.statistics.counts)
        assert np.array_equal(found.sums, store.statistics.sums)
        pooled = counted(features, labels)
        assert np.abs(found.sums - pooled.sums).max() <= 1e-9 * np.abs(pooled.sums).max()
        short = await known(channel, learner.handshake(), bits=0)
        assert np.abs(short.means - pooled.means).max() <= 2.0**-22 * np.abs(pooled.means).max()

    learning(check)


def test_before_the_first_push_samples_are_told_so_and_their_stream_goes_on(learning, spaces):
    (payload,) = payloads_of(spaces["split"], 1)

    async def check(_, channel, store):
        device, learner = load_device(spaces["split"]), load_device(spaces["whole"])
        call = channel.stream_stream(STREAM)()
        await call.write(Uplink(handshake=from_handshake(device.handshake())).SerializeToString())
        await call.read()
        await call.write(sample_message(3, payload))
        downlink = Downlink.FromString(await call.read())
        assert (downlink.sample, downlink.code, list(downlink.labels)) == (3, 9, [])
        assert downlink.error == "sample 3: there is no prototype yet"
        unary = sample_message(3, payload, device.handshake())
        assert await refusal(channel, INFER, unary) == (Code.FAILED_PRECONDITION, downlink.error)
        assert len(await known(channel, learner.handshake())) == 0

        await push(channel, message(learner.handshake(), counted(np.ones((1, WIDTH)), [8])))
        await call.write(sample_message(4, payload))
        downlink = Downlink.FromString(await call.read())
        assert (downlink.code, list(downlink.labels)) == (0, [8])
        await call.done_writing()

    learning(check)


def test_features_that_no_distance_can_be_taken_from_are_refused_alone(learning, spaces):
    device, learner = load_device(spaces["split"]), load_device(spaces["whole"])
    (good,) = payloads_of(spaces["split"], 1)
    far = device.encode(torch.full((1, *device.feature_shape), 1e30))[0]

    async def check(_, channel, store):
        await push(channel, message(learner.handshake(), counted(np.ones((1, WIDTH)), [8])))
        infer = channel.unary_unary(INFER)
        code, details = await refusal(channel, INFER, sample_message(0, far, device.handshake()))
        assert code is Code.INVALID_ARGUMENT
        assert details == "sample 0: payload leads to features beyond 1e+15, or not finite"
        reply = Downlink.FromString(await infer(sample_message(0, good, device.handshake())))
        assert list(reply.labels) == [8]

    learning(check)


def test_a_push_that_is_repeated_counts_once(learning, spaces):
    handshake = load_device(spaces["whole"]).handshake("camera 7")
    statistics = counted(features_of(spaces["whole"], 6), [1, 1, 2, 2, 2, 5])

    async def check(_, channel, store):
        first = await push(channel, message(handshake, statistics))
        assert (first.counted, first.classes, first.samples) == (True, 3, 6)
        # At once, and with other bits: the id says that it is the same push.
        again = [message(handshake, statistics), message(handshake, statistics, bits=5)] * 4
        replies = await asyncio.gather(*(push(channel, raw) for raw in again))
        assert {(r.counted, r.classes, r.samples) for r in replies} == {(False, 3, 6)}
        assert store.statistics.counts.tolist() == [2, 3, 1]
        other = await push(channel, message(handshake, statistics, push=bytes(16)))
        assert (other.counted, other.classes, other.samples) == (True, 3, 12)

    learning(check)


def test_pushes_that_come_at_once_are_all_counted(learning, spaces):
    handshake = load_device(spaces["whole"]).handshake()

    async def check(_, channel, store):
        parts = [counted(np.full((1, WIDTH), n), [n % 7]) for n in range(30)]
        raws = [message(handshake, part, push=bytes([n] * 16)) for n, part in enumerate(parts)]
        replies = await asyncio.gather(*(push(channel, raw) for raw in raws))
        assert sorted(reply.samples for reply in replies) == list(range(1, 31))
        merged = ClassStatistics.merged(parts)
        assert np.array_equal(store.statistics.counts, merged.counts)
        assert np.array_equal(store.statistics.sums, merged.sums)

    learning(check)


# What is refused, by name, and changes nothing.


def changed(raw, **fields):
    found = StatisticsMessage.FromString(raw)
    for name, value in fields.items():
        setattr(found, name, value)
    if "checksum" not in fields:
        found.checksum = zlib.crc32(found.statistics, zlib.crc32(found.push))
    return found.SerializeToString()


def head(count=b"\x01", classes=b"\x01\x01"):
    """Statistics of two rows with float32 ones for means, written by hand."""
    ones = np.ones((2, WIDTH), "<f4").tobytes()
    return bytes([0, 32, WIDTH, 2]) + classes + count + b"\x01" + ones


REFUSALS = [
    ({"statistics": head()[:-64] + np.full(WIDTH, np.nan, "<f4").tobytes()}, 3, "values that are not finite"),
    ({"statistics": head()[:-64] + np.full(WIDTH, np.inf, "<f4").tobytes()}, 3, "values that are not finite"),
    ({"statistics": head()[:-64] + np.full(WIDTH, 1e16, "<f4").tobytes()}, 3, "class 2 has a value of 1e+16"),
    ({"statistics": head(count=b"\xff" * 9 + b"\x01")}, 3, "a number of more than 63 bits"),  # -1 as int64
    ({"statistics": head(count=b"\x00")}, 3, "class 1 has 0 samples, a row has 1 or more"),
    ({"statistics": head(count=b"\xff" * 8 + b"\x7f")}, 3, "samples with those counted already"),
    ({"statistics": head(classes=b"\x01\x00")}, 3, "class 1 stands out of order, or twice"),
    ({"statistics": head(classes=b"\x01\x0a")}, 3, "class 11 is unknown, allowed are 0 to 9"),
    ({"statistics": bytes([0, 32, 8, 2]) + head()[4:]}, 3, "8 values of 32 bits, expected 16 of 32"),
    ({"statistics": bytes([0, 32, WIDTH, 127]) + head()[4:]}, 3, "statistics end after"),
    ({"statistics": bytes([0, 32]) + b"\xff\xff\x7f" * 2}, 3, "2097151 values of 32 bits, expected 16 of 32"),
    ({"statistics": bytes([0, 32, WIDTH]) + b"\xff\xff\x7f"}, 3, "2097151 rows, a message of"),
    ({"statistics": bytes([0, 32, WIDTH, 0])}, 3, "no samples"),
    ({"statistics": b""}, 3, "statistics end after 0 bytes"),
    ({"statistics": head()[:-1]}, 3, "127 bytes for 32 values of 32 bits"),
    ({"statistics": GARBAGE}, 3, "camera 7"),
    ({"statistics": bytes(most_bytes(WIDTH) + 1)}, 8, f"at most {most_bytes(WIDTH)} allowed"),
    ({"bits": 5}, 3, "16 values of 32 bits, expected 16 of 5"),
    ({"bits": 17}, 3, "bits are 17, allowed are 1 to 16, 32 and 64"),
    ({"push": b"short"}, 3, "the id of the push has 5 bytes, expected 16"),
    ({"checksum": 7}, 3, "checksum 00000007 does not match their"),
]


def test_a_push_that_cannot_be_counted_is_refused_by_name_and_changes_nothing(learning, spaces, tmp_path):
    handshake = load_device(spaces["whole"]).handshake("camera 7")
    statistics = counted(features_of(spaces["whole"], 6), [1, 1, 2, 2, 2, 5])
    good = message(handshake, statistics)
    squares = ClassStatistics.of(np.ones((1, WIDTH)), [3], squares=True)

    async def check(_, channel, store):
        await push(channel, good)
        before = (tmp_path / "prototypes").read_bytes()
        fresh = changed(good, push=bytes(16), statistics=head())
        refused = [(changed(fresh, **fields), code, words) for fields, code, words in REFUSALS]
        refused.append((message(handshake, squares, bytes(16)), 3, "sums of squares"))
        for raw, number, words in refused:
            code, details = await refusal(channel, PUSH_STATISTICS, raw)
            assert (code.value[0], words in details) == (number, True), details
            assert "camera 7" in details
            assert (tmp_path / "prototypes").read_bytes() == before
        assert np.array_equal(store.statistics.counts, statistics.counts)
        description = Description.FromString(await channel.unary_unary(DESCRIBE)(b""))
        assert description.rejected == len(refused)
        assert (await push(channel, fresh)).counted  # what is not wrong in it is accepted

    learning(check, most_classes=10)


def test_a_message_that_grpc_itself_finds_too_long_is_refused(learning, spaces):
    handshake = load_device(spaces["whole"]).handshake("camera 7")
    raw = changed(message(handshake, counted(np.ones((1, WIDTH)), [1])), statistics=bytes(32 << 20))

    async def check(_, channel, store):
        code, details = await refusal(channel, PUSH_STATISTICS, raw)
        assert code is Code.RESOURCE_EXHAUSTED
        assert "larger than max" in details
        assert store.prototypes is None

    learning(check)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": 7}, "protocol version: expected 1, got 7"),
        ({"model": "0123456789abcdef"}, "model id: expected"),
        ({"feature_shape": (8,)}, "feature shape: expected [16], got [8]"),
        ({"feature_shape": (4, 4)}, "feature shape: expected [16], got [4, 4]"),
        ({"tables": b"\x01\x02"}, "is split; a device learns with one that is whole"),
        (None, "expected a handshake with the message, got none"),
        ("garbage", "12 bytes that are no fedsim.edge.v1."),
    ],
)
@pytest.mark.parametrize("method", [PUSH_STATISTICS, GET_PROTOTYPES])
def test_features_of_another_model_are_refused(learning, spaces, change, words, method):
    handshake = load_device(spaces["whole"]).handshake("camera 7")
    model = handshake.model

    async def check(_, channel, store):
        raw = message(
            replace(handshake, **change) if isinstance(change, dict) else handshake,
            counted(np.ones((1, WIDTH)), [1]),
        )
        if method == GET_PROTOTYPES:  # its handshake has the same place
            raw = PrototypesRequest(
                handshake=StatisticsMessage.FromString(raw).handshake, bits=32
            ).SerializeToString()
        if change is None:
            raw = StatisticsMessage(bits=32).SerializeToString() if method == PUSH_STATISTICS else b""
        elif change == "garbage":
            raw = GARBAGE
        code, details = await refusal(channel, method, raw)
        assert code is (Code.INVALID_ARGUMENT if change == "garbage" else Code.FAILED_PRECONDITION)
        assert words in details
        assert isinstance(change, str | None) or "'camera 7'" in details
        assert (store.prototypes, store.model) == (None, model)

    learning(check, model=model)


def test_the_first_push_says_which_model_the_features_are_of(learning, spaces):
    statistics = counted(np.ones((1, WIDTH)), [1])

    async def check(_, channel, store):
        bad = Handshake("no hexadecimals!", b"", (WIDTH,), client="camera 7")
        code, details = await refusal(channel, PUSH_STATISTICS, message(bad, statistics))
        assert code is Code.INVALID_ARGUMENT
        assert "model id 'no hexadecimals!', expected 16 hex digits" in details
        assert store.model is None
        mine, other = (load_device(spaces[name]).handshake("camera 7") for name in ("whole", "other"))
        assert (await push(channel, message(mine, statistics))).counted
        code, details = await refusal(channel, PUSH_STATISTICS, message(other, statistics, bytes(16)))
        assert code is Code.FAILED_PRECONDITION
        assert details == f"'camera 7': model id: expected '{mine.model}', got '{other.model}'"

    learning(check)


def test_bits_of_a_reply_that_there_are_not(learning, spaces):
    handshake = load_device(spaces["whole"]).handshake("camera 7")

    async def check(_, channel, store):
        raw = PrototypesRequest(handshake=from_handshake(handshake), bits=17).SerializeToString()
        code, details = await refusal(channel, GET_PROTOTYPES, raw)
        assert code is Code.INVALID_ARGUMENT
        assert details == "'camera 7': bits are 17, allowed are 1 to 16, 32 and 64"

    learning(check)


def test_a_server_without_prototypes_says_so(serve, spaces):
    handshake = load_device(spaces["whole"]).handshake("camera 7")

    async def check(server):
        async with connected(server) as channel:
            for method in (PUSH_STATISTICS, GET_PROTOTYPES):
                raw = message(handshake, counted(np.ones((1, WIDTH)), [1]))
                code, details = await refusal(channel, method, raw)
                assert code is Code.UNIMPLEMENTED
                assert details == "this server keeps no prototypes: it was started without --prototypes"
            # It classifies by the largest output, as ever.
            device = load_device(spaces["split"])
            (payload,) = payloads_of(spaces["split"], 1)
            raw = await channel.unary_unary(INFER)(sample_message(0, payload, device.handshake()))
            expected = features_of(spaces["whole"], 1).argmax()
            assert list(Downlink.FromString(raw).labels) == [expected]

    serve([spaces["split"]], check)


# The store of a server.


def test_the_store_of_a_server_has_the_width_of_its_models(spaces, tmp_path):
    halves = {name: load_server(spaces[name]) for name in ("split", "narrow")}
    whole = load_device(spaces["whole"])
    with pytest.raises(ValueError, match="outputs of one width, these have: split 16, narrow 8"):
        store_for(tmp_path / "file", halves)
    with pytest.raises(ValueError, match="outputs of one width, these have: narrow 8, whole 16"):
        store_for(tmp_path / "file", {"narrow": halves["narrow"]}, spaces["whole"])
    with pytest.raises(ValueError, match="split is split; devices learn with one that is whole"):
        store_for(tmp_path / "file", {"split": halves["split"]}, spaces["split"])
    assert not (tmp_path / "file").exists()
    store = store_for(tmp_path / "file", {"split": halves["split"]}, spaces["whole"], 4)
    assert (store.dimension, store.model) == (WIDTH, whole.model_id)
    store.close()
