"""Faults of whole processes: a server that dies and comes back, a device that dies, a flood of garbage."""

import asyncio
import json
import signal
from collections import Counter

import grpc
import pytest
import torch

from edge.bundle import load_device, load_server
from edge.rpc import DESCRIBE, INFER, STREAM, Description, Downlink, Uplink, from_handshake, sample_message


def finished(path):
    """Numbers of the samples that are final so far."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [event["sample"] for event in map(json.loads, lines) if event["stage"] == "total"]


def describe(address):
    with grpc.insecure_channel(address) as channel:
        return Description.FromString(channel.unary_unary(DESCRIBE)(b"", timeout=30))


def test_a_server_killed_and_restarted_loses_no_sample(
    models, samples, start, start_server, tmp_path, events_of, wait_until
):
    out = tmp_path / "events.jsonl"
    # Slow batches, so that there are always samples on their way when the server dies.
    slow = ["--wait-ms", "40", "--batch", "32"]
    server = start_server(models["plain"], arguments=slow)
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", out,
        "--model", models["plain"], "--in-flight", "4", "--repeat", "4", "--deadline", "60",
    )  # fmt: skip
    wait_until(lambda: len(finished(out)) >= 20, "the first samples")
    server.end(signal.SIGKILL)
    count = len(finished(out))
    assert count < 160, "the server was killed too late to prove anything"
    start_server(models["plain"], listen=server.address, arguments=slow)
    assert device.end() == 0, device.errors

    numbers = finished(out)
    assert len(numbers) == 160
    assert len(set(numbers)) == 160
    events = events_of(out)
    # The first stream, attempts while nobody was there, the second stream.
    first, *attempts, second = events.pop(None)["stream"]
    assert "detail" in first
    assert all("detail" in attempt for attempt in attempts)
    assert "detail" not in second
    assert min(first["wire_bytes"], second["wire_bytes"]) > 5 * 4096
    assert {stages["total"][0]["outcome"] for stages in events.values()} == {"answered"}
    # What was on its way was sent again, and both times are counted.
    again = [s for s in events.values() if s["send"][0]["frame_bytes"] > 2 * s["send"][0]["payload_bytes"]]
    assert 1 <= len(again) <= 4
    assert {stages["total"][0]["detail"] for stages in again} == {"sent 2 times"}


def test_a_server_killed_for_good_leaves_the_rest_to_the_device(
    models, samples, start, start_server, tmp_path, events_of, wait_until
):
    out = tmp_path / "events.jsonl"
    server = start_server(models["plain"])
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", out, "--limit", "24",
        "--model", models["plain"], "--fallback", models["whole"], "--deadline", "0.2", "--interval-ms", "20",
    )  # fmt: skip
    wait_until(lambda: len(finished(out)) >= 5, "the first samples")
    server.end(signal.SIGKILL)
    assert device.end() == 0, device.errors
    numbers = finished(out)
    assert sorted(numbers) == list(range(100, 124))
    events = events_of(out)
    events.pop(None)
    outcomes = [events["plain", number]["total"][0]["outcome"] for number in numbers]
    assert {"answered", "local"} == set(outcomes[4:]) | {"answered"}
    assert outcomes[-1] == "local"
    assert outcomes[:5] == ["answered"] * 5


def test_a_killed_device_is_forgotten(models, samples, start, start_server, tmp_path, wait_until):
    server = start_server(models["plain"], arguments=["--wait-ms", "30000", "--batch", "1000"])
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", tmp_path / "events.jsonl",
        "--model", models["plain"], "--in-flight", "8", "--deadline", "600",
    )  # fmt: skip
    wait_until(lambda: describe(server.address).waiting == 8, "samples to wait")
    assert describe(server.address).streams == 1
    device.end(signal.SIGKILL)
    wait_until(lambda: describe(server.address).streams == 0, "forgetting the device")
    left = describe(server.address)
    assert (left.waiting, left.answered) == (0, 0)
    assert server.end(signal.SIGTERM) == 0, server.errors
    assert server.errors == ""


def test_a_device_that_falls_silent_is_forgotten(models, samples, start, tmp_path, wait_until, serve):
    """No FIN, no RST: its process hangs, its radio is off. Only asking finds out."""
    out = tmp_path / "events.jsonl"

    async def check(server):
        device = start(
            "edge.device", "--server", server.address, "--samples", samples, "--out", out,
            "--model", models["plain"], "--in-flight", "8", "--deadline", "600",
        )  # fmt: skip
        while server.service._waiting < 8:
            await asyncio.sleep(0.02)
        device.popen.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            while server.service._streams or server.service._waiting:
                await asyncio.sleep(0.02)
        assert server.service._answered == 0

    serve(
        [models["plain"]],
        check,
        wait_s=600.0,
        batch=1000,
        server={"keepalive_s": 1, "keepalive_timeout_s": 1},
    )


def test_a_server_that_falls_silent_holds_up_no_sample(
    models, samples, start, start_server, tmp_path, events_of, wait_until
):
    out = tmp_path / "events.jsonl"
    server = start_server(models["plain"])
    device = start(
        "edge.device", "--server", server.address, "--samples", samples, "--out", out, "--limit", "12",
        "--model", models["plain"], "--fallback", models["whole"], "--deadline", "0.3", "--interval-ms", "50",
    )  # fmt: skip
    wait_until(lambda: len(finished(out)) >= 3, "the first samples")
    server.popen.send_signal(signal.SIGSTOP)
    try:
        assert device.end() == 0, device.errors
    finally:
        server.popen.send_signal(signal.SIGCONT)
    events = events_of(out)
    streams = events.pop(None)["stream"]
    assert streams[0]["detail"] == "the server did not answer in time"
    assert len(events) == 12
    late = [stages for stages in events.values() if stages["total"][0]["outcome"] == "local"]
    assert len(late) >= 5
    for stages in late:
        assert 0.3 <= stages["send"][0]["duration_s"] < 2
        assert "no answer within 0.3 s" in stages["total"][0]["detail"]


@pytest.mark.slow
def test_garbage_does_not_make_the_server_grow(models, start_server):
    server = start_server(models["coded"])
    half = load_device(models["coded"])
    hello = Uplink(handshake=from_handshake(half.handshake())).SerializeToString()
    garbage = [b"\xff" * size for size in (1, 7, 50, 3000)]
    limit = load_server(models["coded"]).max_payload
    oversized = [sample_message(9, bytes(size), half.handshake()) for size in (limit + 1, limit + 500)]

    def flood(channel, rounds):
        infer, stream = channel.unary_unary(INFER), channel.stream_stream(STREAM)
        codes = Counter()
        for turn in range(rounds):
            message = garbage[turn % len(garbage)]
            framed = sample_message(turn, message, half.handshake())
            codes[status(lambda m=message: infer(m, timeout=30))] += 1
            codes[status(lambda m=message: list(stream(iter([hello, m]), timeout=30)))] += 1
            codes[status(lambda m=framed: infer(m, timeout=30))] += 1
            codes[status(lambda m=oversized[turn % 2]: infer(m, timeout=30))] += 1
        return codes

    with grpc.insecure_channel(server.address) as channel:
        flood(channel, 150)
        before = server.rss_mb
        codes = flood(channel, 500)
        grown = server.rss_mb - before
        # A framed payload of 0xff may stand for some features; garbage without a frame never does.
        assert codes[grpc.StatusCode.INVALID_ARGUMENT] >= 1000
        assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] == 500
        assert set(codes) <= {*(grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED), None}
        assert grown < 8, f"{grown:.1f} MB in 2000 calls"
        (payload,) = half.encode(half.features(torch.zeros(1, 1, 8, 8)))
        reply = Downlink.FromString(channel.unary_unary(INFER)(sample_message(0, payload, half.handshake())))
        assert (reply.code, len(reply.labels)) == (0, 1)
    assert server.end(signal.SIGTERM) == 0, server.errors
    assert server.errors == ""


def status(call):
    """The status that a call fails with; None if it does not."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return None
