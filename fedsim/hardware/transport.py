"""How long the software at both ends of a link takes for a message: gRPC, event loops, sockets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Transport"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Transport:
    """Time of a message and its reply beyond link and server, linear in the message: ``t = a + b n``.

    Args:
        fixed_s: of any message (a).
        per_byte_s: of each of its bytes (b).

    Raises:
        ValueError: one of them below 0.
    """

    fixed_s: float = 0.0
    per_byte_s: float = 0.0

    def __post_init__(self) -> None:
        for key in ("fixed_s", "per_byte_s"):
            value = getattr(self, key)
            if not 0 <= value < math.inf:
                raise ValueError(f"{key} is {value}; has to be 0 or more, and finite")

    def __str__(self) -> str:
        return f"{1e3 * self.fixed_s:.3g} ms a message and {1e9 * self.per_byte_s:.3g} ns a byte of it"

    @overload
    def seconds(self, frame_bytes: int) -> float: ...

    @overload
    def seconds(self, frame_bytes: Ints) -> Floats: ...

    def seconds(self, frame_bytes: int | Ints) -> float | Floats:
        """Time of messages of so many bytes, there and back, in seconds; shaped as they are."""
        return self.fixed_s + self.per_byte_s * frame_bytes
