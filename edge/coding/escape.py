"""How a symbol outside a table's support is coded: Elias gamma code of its distance from the support.

An escaped symbol at distance ``d >= 1`` above or below the support is mapped to ``v = 2 d`` (above)
or ``v = 2 d + 1`` (below) and coded as the bit length of ``v`` (6 bits) and the bits of ``v`` behind
its leading one. Any int32 symbol can be coded so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LENGTH_BITS", "MAX_LENGTH", "escape_bits", "from_values", "lengths_of", "to_values"]

#: The bit length of an escaped value is coded with this many bits.
LENGTH_BITS = 6
#: Distances stay below 2**33 (an int32 symbol from an int32 offset), so values have at most 35 bits.
MAX_LENGTH = 35


def to_values(index: NDArray[np.int64], support: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Values ``v >= 2`` of table indices outside ``0 .. support - 1``."""
    above = index >= support
    distance = np.where(above, index - support + 1, -index)
    return 2 * distance + ~above


def from_values(values: NDArray[np.int64], support: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """The inverse of :func:`to_values`."""
    distance = values >> 1
    return np.where(values & 1, -distance, support - 1 + distance)


def lengths_of(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bit lengths of values >= 1."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)  # exact below 2**53


def escape_bits(index: NDArray[np.int64], support: int) -> NDArray[np.int64]:
    """Bits that coding these indices takes behind their escape symbols."""
    return LENGTH_BITS + lengths_of(to_values(index, support)) - 1
