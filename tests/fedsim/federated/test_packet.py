import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from fedsim.errors import FederationError
from fedsim.federated.packet import ArraysCodec, Packet

KINDS = st.sampled_from(["<f4", "<f8", "<i8", "<u1", ">f4"])


@given(st.dictionaries(st.text(max_size=5), st.tuples(array_shapes(min_dims=0), KINDS), max_size=4))
def test_arrays_come_back_and_cost_their_values(shapes):
    arrays = {name: np.full(shape, 3, kind) for name, (shape, kind) in shapes.items()}
    codec = ArraysCodec.like(arrays)
    payload = codec.encode(arrays)
    assert len(payload) == codec.size == 4 + sum(array.nbytes for array in arrays.values())
    found = codec.decode(payload)
    assert set(found) == set(arrays)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)


def test_tensors_are_arrays():
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(4)}
    found = ArraysCodec.like(tensors).decode(ArraysCodec.like(tensors).encode(tensors))
    assert np.array_equal(found["w"], [[0, 1, 2], [3, 4, 5]])
    assert found["n"] == 4
    assert found["n"].dtype == np.int64


def test_arrays_that_are_not_what_was_expected():
    codec = ArraysCodec.like({"a": np.zeros((2, 2), np.float32), "b": np.zeros(3)})
    other = ArraysCodec.like({"a": np.zeros(4, np.float32), "b": np.zeros(3)})
    with pytest.raises(FederationError, match="arrays of other names: b, c"):
        codec.encode({"a": np.zeros((2, 2)), "c": np.zeros(3)})
    with pytest.raises(FederationError, match=r"a has shape \[4\], expected \[2, 2\]"):
        codec.encode({"a": np.zeros(4), "b": np.zeros(3)})
    payload = codec.encode({"a": np.zeros((2, 2)), "b": np.zeros(3)})
    with pytest.raises(FederationError, match="arrays of other names, shapes or types"):
        other.decode(payload)
    with pytest.raises(FederationError, match="arrays of 43 bytes, expected 44"):
        codec.decode(payload[:-1])
    with pytest.raises(FederationError, match="b has values that are not finite"):
        codec.decode(codec.encode({"a": np.zeros((2, 2)), "b": np.array([0, np.nan, 1])}))


def test_a_packet_is_the_content_of_a_message_and_back():
    packet = Packet().with_part("a", b"12345", 33.0).with_part("b", b"xy")
    assert packet.payload_bytes == 7
    assert packet.information == 33.0 + 16
    found = Packet.of(packet.content())
    assert found.parts == packet.parts
    assert found["a"] == b"12345"
    assert "b" in found
    assert "c" not in found
    with pytest.raises(FederationError, match="no part 'c'; it has a, b"):
        found["c"]


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"packet": ArrayRecord()}),
        RecordDict({"packet": ConfigRecord({"a": "text"})}),
        RecordDict({"other": ConfigRecord()}),
    ],
)
def test_content_that_is_no_packet(content):
    with pytest.raises(FederationError, match="a message without a packet"):
        Packet.of(content)
