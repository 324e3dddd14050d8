"""Integer frequency tables: a prior in the only form that two machines agree on.

A learned prior is a floating-point function, and floating-point results differ between machines
(other processor, other convolution backend). It is therefore evaluated once, when the model is
frozen, and shipped as integers; a peer never recomputes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge.coding.escape import escape_bits

__all__ = ["PRECISION", "FrequencyTables"]

#: Frequencies of a table add up to ``2 ** PRECISION``; the precision of constriction's default models.
PRECISION = 24
_TOTAL = 1 << PRECISION

IntArray = NDArray[np.int32]
FrequencyArray = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """One table of integer frequencies for each channel.

    Table ``c`` covers the symbols ``offsets[c] .. offsets[c] + len(frequencies[c]) - 2``. Its last
    entry is the escape: the frequency of all symbols outside that support.

    Args:
        frequencies: for each channel a uint32 array of at least two entries, each at least 1,
            with the sum ``2 ** PRECISION``.
        offsets: smallest symbol of each table, int32 [channels].

    Raises:
        ValueError: a table that breaks one of these conditions, named by its channel.
    """

    frequencies: tuple[FrequencyArray, ...]
    offsets: IntArray

    def __post_init__(self) -> None:
        if len(self.frequencies) == 0 or len(self.frequencies) != len(self.offsets):
            raise ValueError(f"{len(self.frequencies)} frequency tables but {len(self.offsets)} offsets")
        for channel, table in enumerate(self.frequencies):
            if table.ndim != 1 or len(table) < 2:
                raise ValueError(f"table {channel} has shape {table.shape}, needs a symbol and the escape")
            total = int(table.sum(dtype=np.uint64))
            if total != _TOTAL or int(table.min()) < 1:
                raise ValueError(
                    f"table {channel} has sum {total} and minimum {int(table.min())}, "
                    f"needs sum {_TOTAL} and at least 1 everywhere"
                )

    @property
    def channels(self) -> int:
        """Number of tables."""
        return len(self.frequencies)

    @classmethod
    def from_probabilities(
        cls, probabilities: Sequence[NDArray[np.float64]], offsets: Sequence[int]
    ) -> FrequencyTables:
        """Quantise probability mass functions.

        Args:
            probabilities: for each channel the probabilities of its symbols, float64, not negative,
                with a sum of at most 1 (but for rounding). What is missing from 1 goes to the escape.
            offsets: smallest symbol of each channel.

        Raises:
            ValueError: a channel that is empty, negative, not finite, or has more symbols than the
                precision allows.
        """
        tables = tuple(_quantised(channel, pmf) for channel, pmf in enumerate(probabilities))
        return cls(tables, np.asarray(offsets, dtype=np.int32))

    def bits(self, symbols: IntArray) -> NDArray[np.float64]:
        """Information content of each symbol, in bits, under these tables.

        Args:
            symbols: int32 [channels, n].

        Returns:
            float64 [channels, n]. A symbol outside the support costs its escape and the bits of its
            distance (see :class:`edge.coding.entropy.EntropyCoder`).
        """
        costs = np.empty(symbols.shape, dtype=np.float64)
        for channel, row in zip(range(self.channels), symbols, strict=True):
            costs[channel] = self._costs(channel, row)
        return costs

    def bits_under(self, symbols: IntArray, tables: NDArray[np.int64]) -> NDArray[np.float64]:
        """As :meth:`bits`, where each symbol has a table of its own choice.

        Args:
            symbols: int32 [n].
            tables: index of each symbol's table, int64 [n].

        Returns:
            float64 [n].
        """
        costs = np.empty(symbols.shape, dtype=np.float64)
        for table in np.unique(tables):
            members = tables == table
            costs[members] = self._costs(int(table), symbols[members])
        return costs

    def _costs(self, table: int, symbols: IntArray) -> NDArray[np.float64]:
        """Bits of symbols [n] under one table."""
        information = self._information[table]
        escape = len(information) - 1
        index = symbols.astype(np.int64) - int(self.offsets[table])
        outside = (index < 0) | (index >= escape)
        costs: NDArray[np.float64] = information[np.where(outside, escape, index)]
        if outside.any():
            costs[outside] += escape_bits(index[outside], escape)
        return costs

    @cached_property
    def _information(self) -> tuple[NDArray[np.float64], ...]:
        precision = np.float64(PRECISION)
        return tuple(precision - np.log2(table.astype(np.float64)) for table in self.frequencies)

    def digest(self) -> bytes:
        """SHA-256 of the tables in a canonical form: the same on every machine."""
        digest = hashlib.sha256(b"fedsim frequency tables 1")
        for name, array in sorted(self.to_arrays().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        return digest.digest()

    def to_arrays(self) -> dict[str, NDArray[np.int32] | NDArray[np.uint32]]:
        """The tables as named arrays, for a safetensors file."""
        return {
            "tables.frequencies": np.concatenate(self.frequencies),
            "tables.lengths": np.array([len(table) for table in self.frequencies], dtype=np.int32),
            "tables.offsets": self.offsets,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.int32] | NDArray[np.uint32]]) -> FrequencyTables:
        """The inverse of :meth:`to_arrays`.

        Raises:
            ValueError: an array is missing or does not fit the others.
        """
        try:
            flat, lengths, offsets = (arrays[f"tables.{n}"] for n in ("frequencies", "lengths", "offsets"))
        except KeyError as error:
            raise ValueError(f"frequency tables without {error.args[0]!r}") from error
        if int(lengths.sum()) != len(flat) or (len(lengths) and int(lengths.min()) < 2):
            raise ValueError(f"frequency tables of lengths {lengths.tolist()} but {len(flat)} frequencies")
        parts = np.split(np.asarray(flat, dtype=np.uint32), np.cumsum(lengths)[:-1])
        return cls(tuple(parts), np.asarray(offsets, dtype=np.int32))


def _quantised(channel: int, pmf: NDArray[np.float64]) -> FrequencyArray:
    """Frequencies of ``pmf`` and its escape: at least 1 each, sum exactly ``2 ** PRECISION``."""
    pmf = np.asarray(pmf, dtype=np.float64)
    if pmf.ndim != 1 or pmf.size == 0 or not np.isfinite(pmf).all() or (pmf < 0).any() or pmf.sum() <= 0:
        raise ValueError(
            f"channel {channel}: probabilities have to be finite, not negative, and not all zero"
        )
    if pmf.size + 1 > _TOTAL >> 8:
        raise ValueError(f"channel {channel}: {pmf.size} symbols are too many for {PRECISION} bits")
    weights = np.append(pmf, max(0.0, 1.0 - pmf.sum()))
    free = _TOTAL - weights.size
    shares = np.floor(weights / weights.sum() * free).astype(np.uint32)
    shares[int(weights.argmax())] += free - int(shares.sum())
    frequencies: FrequencyArray = shares + np.uint32(1)
    return frequencies
