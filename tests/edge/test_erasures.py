"""What arrives of a payload: whole packets where they decode alone, else all ahead of the first gap."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bottlenecks import create
from edge.bottlenecks.channel import ChannelBottleneck
from edge.erasures import Packetised, erased

STREAM = create("float32", (2, 2))
PACKETS = create("channel", (1, 4, 4), channels=6, packets=6)


def payload_of(packets: list[bytes]) -> bytes:
    assert isinstance(PACKETS, ChannelBottleneck)
    return PACKETS.assemble(packets)


def test_who_brings_its_own_packets() -> None:
    assert isinstance(PACKETS, Packetised)
    assert not isinstance(STREAM, Packetised)


@given(st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_single_packets_are_lost_of_what_is_packetised(seed: int, probability: float) -> None:
    assert isinstance(PACKETS, ChannelBottleneck)
    packets = [bytes([65 + n]) * (n + 1) for n in range(6)]
    lost = np.random.default_rng(seed).random(6) < probability
    arriving = erased(PACKETS, payload_of(packets), probability, np.random.default_rng(seed))
    if lost.all():
        assert arriving is None
    else:
        assert arriving is not None
        expected = [b"" if gone else packet for gone, packet in zip(lost, packets, strict=True)]
        assert PACKETS.packets(arriving) == expected


@given(st.integers(0, 2**32), st.floats(0, 1), st.binary(max_size=40), st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_a_stream_ends_at_its_first_gap(seed: int, probability: float, payload: bytes, packets: int) -> None:
    arriving = erased(STREAM, payload, probability, np.random.default_rng(seed), packets) or b""
    assert payload.startswith(arriving)
    count = max(1, min(packets, len(payload)))
    draws = np.random.default_rng(seed).random(count)
    pieces_left = next((n for n, draw in enumerate(draws) if draw < probability), count)
    assert abs(len(arriving) - len(payload) * pieces_left / count) < 1  # pieces of near-equal size


def test_certain_and_impossible_losses() -> None:
    generator = np.random.default_rng(0)
    payload = payload_of([b"a"] * 6)
    for made in (STREAM, PACKETS):
        assert erased(made, payload, 0.0, generator) == payload
        assert erased(made, payload, 1.0, generator) is None


def test_how_often_a_stream_arrives_whole() -> None:
    generator = np.random.default_rng(0)
    arriving = [erased(STREAM, bytes(range(100)), 0.3, generator) for _ in range(4000)]
    lengths = np.array([0 if a is None else len(a) for a in arriving])
    for pieces, share in enumerate([0.3, 0.3 * 0.7, 0.3 * 0.7**2, 0.3 * 0.7**3, 0.7**4]):
        assert np.mean(lengths == 25 * pieces) == pytest.approx(share, abs=0.03)


def test_what_is_left_of_plain_features_is_no_payload() -> None:
    payload = STREAM.encode(torch.rand(1, 2, 2))[0]
    seen = {erased(STREAM, payload, 0.5, np.random.default_rng(seed)) for seed in range(400)}
    assert seen == {None, payload[:4], payload[:8], payload[:12], payload}


def test_what_was_lost_before_stays_lost() -> None:
    payload = payload_of([b"", b"", b"a", b"", b"", b""])
    assert erased(PACKETS, payload, 0.0, np.random.default_rng(0)) == payload
    assert erased(PACKETS, payload_of([b""] * 6), 0.0, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"probability": 1.5}, r"probability is 1\.5, allowed are 0 to 1"),
        ({"probability": float("nan")}, "probability is nan"),
        ({"probability": 0.1, "packets": 0}, "packets is 0, allowed are whole numbers of 1 or more"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        erased(STREAM, b"abcd", generator=np.random.default_rng(0), **arguments)  # type: ignore[arg-type]
