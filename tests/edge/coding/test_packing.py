"""Symbols of a fixed number of bits: no gaps, nothing lost, damage refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.coding import CodingError
from edge.coding.packing import pack, packed_size, unpack


@st.composite
def symbols_of_some_bits(draw: st.DrawFn) -> tuple[int, list[int]]:
    bits = draw(st.integers(1, 16))
    return bits, draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))


@given(symbols_of_some_bits())
@settings(max_examples=80, deadline=None)
def test_what_is_packed_comes_out_again_and_takes_its_bits(drawn: tuple[int, list[int]]) -> None:
    bits, symbols = drawn
    payload = pack(np.array(symbols, dtype=np.int32), bits)
    assert len(payload) == packed_size(len(symbols), bits) == -(-len(symbols) * bits // 8)
    assert unpack(payload, bits, len(symbols)).tolist() == symbols


@given(symbols_of_some_bits())
@settings(max_examples=100, deadline=None)
def test_symbols_lie_one_behind_the_other_the_highest_bit_first(drawn: tuple[int, list[int]]) -> None:
    bits, symbols = drawn
    as_text = "".join(f"{symbol:0{bits}b}" for symbol in symbols)
    filled = as_text.ljust(-(-len(as_text) // 8) * 8, "0")
    expected = bytes(int(filled[start : start + 8], 2) for start in range(0, len(filled), 8))
    assert pack(np.array(symbols, dtype=np.int64), bits) == expected


@pytest.mark.parametrize("symbols", [[0, 8], [-1, 3]])
def test_symbols_of_more_bits_are_refused(symbols: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fit into 3 bits"):
        pack(np.array(symbols), 3)


def test_bytes_that_were_not_packed_so_are_refused() -> None:
    with pytest.raises(CodingError, match="payload of 1 bytes, expected 2"):
        unpack(b"\0", 3, 3)
    with pytest.raises(CodingError, match="behind the 3 symbols of 3 bits"):
        unpack(b"\0\x01", 3, 3)
    assert unpack(b"\0\x80", 3, 3).tolist() == [0, 0, 1]
