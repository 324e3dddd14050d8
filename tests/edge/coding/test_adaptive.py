import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.coding import CodingError
from edge.coding.adaptive import AdaptiveCoder


@st.composite
def alphabets(draw):
    size = draw(st.sampled_from([2, 3, 5, 32, 33, 64, 100, 256, 1024, 65536]))
    symbols = draw(st.lists(st.integers(0, size - 1), max_size=80))
    return size, np.array(symbols, dtype=np.int32)


@given(alphabets())
def test_what_is_decoded_is_what_was_encoded_and_close_to_its_information(case):
    size, symbols = case
    coder = AdaptiveCoder(size)
    payload = coder.encode(symbols)
    assert np.array_equal(coder.decode(payload, len(symbols)), symbols)
    assert len(payload) <= coder.bits(symbols) / 8 + 2


@given(alphabets(), st.binary(max_size=40))
def test_damage_never_crashes(case, payload):
    size, symbols = case
    coder = AdaptiveCoder(size)
    try:
        decoded = coder.decode(payload, len(symbols))
    except CodingError:
        return
    assert decoded.shape == symbols.shape
    assert not decoded.size or 0 <= decoded.min() <= decoded.max() < size


@pytest.mark.parametrize("size", [32, 256])
def test_it_learns_the_distribution(size):
    generator = np.random.default_rng(0)
    values = generator.normal(size / 2, size / 12, 4000).round().clip(0, size - 1).astype(np.int32)
    share = np.bincount(values, minlength=size) / len(values)
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert AdaptiveCoder(size).bits(values) / len(values) < 1.04 * entropy


def test_bytes_stay_as_they_are():
    symbols = np.array([0, 1, 1, 2, 3, 3, 3, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 0, 3], dtype=np.int32)
    assert AdaptiveCoder(8).encode(symbols).hex() == "04abbb0f256f4e8b8b"
    assert AdaptiveCoder(256).encode(symbols).hex() == "000101020d1461b8a61f7649a66ab980db"


@pytest.mark.parametrize(("size", "most"), [(32, 0.55), (256, 0.7)])
def test_few_values_of_a_rectifier_are_worth_coding(size, most):
    """One prototype of 64 values, more than half of them zeros: an alphabet is not worth learning for it."""
    generator = np.random.default_rng(0)
    values = generator.exponential(size / 6, 64) * (generator.random(64) < 0.4)
    symbols = values.round().clip(0, size - 1).astype(np.int32)
    assert AdaptiveCoder(size).bits(symbols) < most * 64 * np.log2(size)


def test_weights_of_many_symbols_of_a_large_alphabet_stay_in_their_integers():
    symbols = np.full(150_000, 7, dtype=np.int32)
    symbols[::1000] = 65535
    coder = AdaptiveCoder(65536)
    payload = coder.encode(symbols)
    assert len(payload) < len(symbols) / 5
    assert np.array_equal(coder.decode(payload, len(symbols)), symbols)


def test_a_count_spreads_as_a_triangle():
    coder = AdaptiveCoder(128)  # up to 3 away
    weights = np.zeros(128, dtype=np.int64)
    coder._count(weights, np.array([0, 60, 60], dtype=np.int32))
    triangle = np.array([1, 2, 3, 4, 3, 2, 1])
    expected = np.zeros(128, dtype=np.int64)
    expected[57:64], expected[:4] = 2 * triangle, triangle[3:]
    expected[60] += 2 * triangle.sum()
    expected[0] += triangle.sum()
    assert np.array_equal(weights, 2 * expected)


@pytest.mark.parametrize("size", [1, 65537])
def test_size_out_of_bounds(size):
    with pytest.raises(ValueError, match=f"size is {size}, allowed are 2 to 65536"):
        AdaptiveCoder(size)


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        (np.zeros((2, 2), np.int32), r"int32\[2, 2\], expected int32\[n\]"),
        (np.zeros(2, np.int64), r"int64\[2\], expected int32\[n\]"),
        (np.array([0, 8], np.int32), "symbols 0 to 8, expected 0 to 7"),
        (np.array([-1], np.int32), "symbols -1 to -1, expected 0 to 7"),
    ],
)
def test_symbols_that_the_alphabet_does_not_have(symbols, said):
    with pytest.raises(ValueError, match=said):
        AdaptiveCoder(8).encode(symbols)


def test_bytes_for_no_symbols():
    coder = AdaptiveCoder(8)
    assert coder.encode(np.zeros(0, np.int32)) == b""
    with pytest.raises(CodingError, match="3 bytes for no symbols"):
        coder.decode(b"abc", 0)
    with pytest.raises(CodingError, match="empty payload"):
        coder.decode(b"", 4)
