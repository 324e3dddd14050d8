"""Messages and our own types stand for each other; a frame costs what the contract says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.coding.frame import Handshake, check_sample
from edge.rpc import Uplink, from_handshake, sample_message, to_handshake

u32 = st.integers(0, 2**32 - 1)
handshakes = st.builds(
    Handshake,
    model=st.text(max_size=40),
    tables=st.binary(max_size=40),
    feature_shape=st.lists(u32, max_size=4).map(tuple),
    protocol=u32,
    client=st.text(max_size=40),
    top=st.integers(1, 2**32 - 1),
)


@given(handshakes)
def test_handshake_survives_the_wire(handshake):
    message = from_handshake(handshake)
    assert to_handshake(type(message).FromString(message.SerializeToString())) == handshake


def test_top_0_asks_for_one_label():
    message = from_handshake(Handshake("m", b"t", (1,), top=1))
    message.top = 0
    assert to_handshake(message).top == 1


@given(sample=u32, payload=st.binary(min_size=1, max_size=200))
def test_sample_arrives_as_it_was_sent(sample, payload):
    uplink = Uplink.FromString(sample_message(sample, payload))
    assert (uplink.sample, uplink.payload, uplink.HasField("handshake")) == (sample, payload, False)
    check_sample(uplink.sample, uplink.payload, uplink.checksum, max_payload=200)


@given(sample=st.integers(0, 2**28 - 1), payload=st.binary(min_size=30, max_size=30))
def test_frame_of_a_small_payload_costs_at_most_12_bytes(sample, payload):
    assert len(sample_message(sample, payload)) - len(payload) <= 12


def test_unary_message_carries_its_handshake():
    handshake = Handshake("m", b"t", (1, 2))
    uplink = Uplink.FromString(sample_message(7, b"payload", handshake))
    assert to_handshake(uplink.handshake) == handshake


@pytest.mark.parametrize("number", [-1, 2**32])
def test_sample_number_out_of_range_is_named(number):
    with pytest.raises(ValueError, match=f"sample number {number}, allowed are 0 to 4294967295"):
        sample_message(number, b"payload")
