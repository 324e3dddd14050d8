"""Symbols of a fixed number of bits, packed into bytes without gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.coding.entropy import CodingError

__all__ = ["pack", "packed_size", "unpack"]


def packed_size(count: int, bits: int) -> int:
    """Bytes that ``count`` symbols of ``bits`` bits take: their bits, rounded up to a byte once."""
    return (count * bits + 7) // 8


def pack(symbols: NDArray[np.integer[Any]], bits: int) -> bytes:
    """Symbols ``0 .. 2 ** bits - 1`` of any shape in C order, the most significant bit first.

    Args:
        bits: 1 to 16.

    Raises:
        ValueError: a symbol that ``bits`` bits do not hold.
    """
    flat = symbols.ravel()
    if flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < 1 << bits:
        raise ValueError(f"symbols of {flat.min()} to {flat.max()} do not fit into {bits} bits")
    rows = (flat.astype(np.uint16)[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint16)) & 1
    return np.packbits(rows.astype(np.uint8)).tobytes()


def unpack(payload: bytes, bits: int, count: int) -> NDArray[np.int32]:
    """The inverse of :func:`pack`: int32 [count].

    Raises:
        CodingError: bytes that :func:`pack` does not make of ``count`` symbols.
    """
    expected = packed_size(count, bits)
    if len(payload) != expected:
        raise CodingError(f"payload of {len(payload)} bytes, expected {expected}")
    filled = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    if filled[count * bits :].any():
        raise CodingError(f"bits are set behind the {count} symbols of {bits} bits")
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.int32)
    symbols: NDArray[np.int32] = filled[: count * bits].reshape(count, bits).astype(np.int32) @ weights
    return symbols
