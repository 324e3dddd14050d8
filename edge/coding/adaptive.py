"""Symbols of a small alphabet, coded under frequencies that both sides count as they go.

For data of which there is no prior: nothing has to be shipped with it or agreed on before. The
frequencies of a block are made of the symbols ahead of it, in integers, so that they are the same on
every machine. Blocks grow with what is known already: short where a symbol says much, long where it says
little.
"""

from __future__ import annotations

from collections.abc import Iterator

import constriction
import numpy as np
from numpy.typing import NDArray

from edge.coding.entropy import CodingError, opened, shortest
from edge.coding.tables import PRECISION

__all__ = ["AdaptiveCoder"]

_BLOCK = 4  # symbols of the first block
_GROWTH = 4  # later ones are one in so many of all symbols ahead of them
_INTEGER_BITS = 63
_SMOOTH = 32  # a count spreads over neighbours as far as one in so many of the alphabet


class AdaptiveCoder:
    """Codes symbols ``0 .. size - 1``.

    A symbol's weight is twice its count and one (Krichevsky and Trofimov 1981). In alphabets of more than
    63 symbols half of a count spreads over its neighbours, as a histogram with few samples is smoothed; half
    stays, for values that many have, such as the zeros of a rectifier.

    Args:
        size: symbols of the alphabet, 2 to 65536.

    Raises:
        ValueError: a size out of bounds.

    >>> coder = AdaptiveCoder(4)
    >>> payload = coder.encode(np.array([3, 3, 1, 3], dtype=np.int32))
    >>> coder.decode(payload, 4).tolist()
    [3, 3, 1, 3]
    """

    def __init__(self, size: int) -> None:
        if not 2 <= size <= 1 << 16:
            raise ValueError(f"size is {size}, allowed are 2 to {1 << 16}")
        self.size = size
        self._reach = max(1, size // _SMOOTH)
        self._unit = self._reach**2  # all that a count gives to others

    def encode(self, symbols: NDArray[np.int32]) -> bytes:
        """Code int32 symbols [n]; no bytes for none.

        Raises:
            ValueError: another shape or type, or a symbol that the alphabet does not have.
        """
        encoder = constriction.stream.queue.RangeEncoder()
        for block, frequencies in self._blocks(self._checked(symbols)):
            encoder.encode(block, _model(frequencies))
        return shortest(encoder) if symbols.size else b""

    def decode(self, payload: bytes, count: int) -> NDArray[np.int32]:
        """The symbols [count] of a payload. Damage may go unseen, but it never crashes.

        Raises:
            CodingError: bytes that no symbols are coded as.
        """
        symbols = np.empty(count, dtype=np.int32)
        if not count:
            if payload:
                raise CodingError(f"{len(payload)} bytes for no symbols")
            return symbols
        decoder = opened(payload)
        weights = self._first()
        try:
            for start, end in _bounds(count):
                symbols[start:end] = decoder.decode(_model(_frequencies(weights)), end - start)
                self._count(weights, symbols[start:end])
        except AssertionError as error:  # constriction's word for data that no encoder produces
            raise CodingError(f"not a payload of {count} symbols: {error}") from error
        return symbols

    def bits(self, symbols: NDArray[np.int32]) -> float:
        """Information of symbols [n] under the frequencies that they are coded with, in bits.

        Raises:
            ValueError: another shape or type, or a symbol that the alphabet does not have.
        """
        parts = [
            PRECISION * len(block) - np.log2(frequencies[block]).sum()
            for block, frequencies in self._blocks(self._checked(symbols))
        ]
        return float(sum(parts))

    def _blocks(self, symbols: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        weights = self._first()
        for start, end in _bounds(len(symbols)):
            block = symbols[start:end]
            yield block, _frequencies(weights)
            self._count(weights, block)

    def _first(self) -> NDArray[np.int64]:
        return np.full(self.size, self._unit, dtype=np.int64)

    def _count(self, weights: NDArray[np.int64], block: NDArray[np.int32]) -> None:
        """Add symbols to the weights; what a triangle has beyond the alphabet's ends is lost."""
        counts = np.bincount(block, minlength=self.size)
        if self._reach == 1:
            weights += 2 * counts
            return
        bends = np.zeros(self.size + 2 * self._reach, dtype=np.int64)  # second differences of the triangles
        for begin, bend in ((0, 1), (self._reach, -2), (2 * self._reach, 1)):
            bends[begin : begin + self.size] += bend * counts
        spread = bends.cumsum().cumsum()[self._reach - 1 :][: self.size]
        weights += 2 * (spread + self._unit * counts)

    def _checked(self, symbols: NDArray[np.int32]) -> NDArray[np.int32]:
        if symbols.ndim != 1 or symbols.dtype != np.int32:
            raise ValueError(f"symbols {symbols.dtype}{list(symbols.shape)}, expected int32[n]")
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < self.size:
            raise ValueError(f"symbols {symbols.min()} to {symbols.max()}, expected 0 to {self.size - 1}")
        return symbols


def _bounds(count: int) -> Iterator[tuple[int, int]]:
    """Where each block begins and ends."""
    start = 0
    while start < count:
        end = min(start + max(_BLOCK, start // _GROWTH), count)
        yield start, end
        start = end


def _frequencies(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers of at least 1 with the sum ``2 ** PRECISION``, in proportion to the weights."""
    weights = weights >> max(0, int(weights.max()).bit_length() + PRECISION - _INTEGER_BITS)
    free = (1 << PRECISION) - len(weights)
    shares: NDArray[np.int64] = weights * free // weights.sum()
    shares[weights.argmax()] += free - shares.sum()
    return 1 + shares


def _model(frequencies: NDArray[np.int64]) -> object:
    # Weights `frequency - 1` make constriction code with exactly these frequencies: see EntropyCoder.
    return constriction.stream.model.Categorical(frequencies.astype(np.float64) - 1.0, perfect=False)
