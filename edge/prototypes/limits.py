"""What a message about prototypes may hold, as both ends of it know."""

from __future__ import annotations

__all__ = ["DEFAULT_BITS", "LARGEST", "PUSH_BYTES", "most_bytes", "most_rows"]

#: Bits that a value travels in where nobody says otherwise.
DEFAULT_BITS = 32
#: Length of the id of a push.
PUSH_BYTES = 16
#: The largest value of a prototype or a feature: distances between such still fit float32.
LARGEST = 1e15

_MOST_VALUES, _MOST_ROWS = 1 << 20, 1 << 16
_ROW_BYTES = 27  # class, slot and count, of at most 63 bits each
_HEAD_BYTES = 64


def most_rows(dimension: int) -> int:
    """Rows that statistics of this dimension may have, merged or not: those of 2^20 values, at most 2^16."""
    return min(_MOST_ROWS, max(1, _MOST_VALUES // dimension))


def most_bytes(dimension: int) -> int:
    """Bytes of the largest statistics of this dimension."""
    return most_rows(dimension) * (8 * dimension + _ROW_BYTES) + _HEAD_BYTES
