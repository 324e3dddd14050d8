"""Class statistics as bytes.

::

    form | bits | dimension | rows | classes | slots? | counts | means | variances?

``form`` says which of the optional parts there are. Whole numbers are varints (seven bits a byte, the
lowest first), classes as differences from one row to the next. Means of at most 16 bits are rounded to
evenly spaced values between the smallest and the largest of the message, which stand ahead of them as
float32, and entropy coded without any prior (:mod:`edge.coding.adaptive`); variances the same, by
themselves. Means of 32 bits are float32; at 64 bits the sums themselves stand there, and nothing is lost.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.coding import CodingError
from edge.coding.adaptive import AdaptiveCoder
from edge.prototypes.statistics import ClassStatistics, StatisticsError

__all__ = ["BITS", "EncodedStatistics", "StatisticsCodec"]

#: Bits that a value of a prototype may have.
BITS = (*range(1, 17), 32, 64)

_SLOTS, _SQUARES = 1, 2
_MOST_BYTES_OF_A_VARINT = 9
_RANGE_BYTES = 8
_FLOAT32_LIMIT = 2.0**128 - 2.0**103  # from here on float32 rounds to infinity


@dataclass(frozen=True, slots=True)
class EncodedStatistics:
    """What :meth:`StatisticsCodec.encode` made.

    Args:
        payload: the bytes.
        ideal_bits: the information in them: that of the coded symbols, and all else as it is written.
    """

    payload: bytes
    ideal_bits: float


@dataclass(frozen=True)
class StatisticsCodec:
    """Writes and reads class statistics.

    Args:
        dimension: of the features.
        bits: of a value; one of :data:`BITS`.
        most_rows: rows that a message may have; a longer one is refused before anything is made of it.

    Raises:
        ValueError: bits that there are not.
    """

    dimension: int
    bits: int = 32
    most_rows: int = 1 << 20

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits are {self.bits!r}, allowed are 1 to 16, 32 and 64")

    def encode(self, statistics: ClassStatistics) -> EncodedStatistics:
        """Write statistics. Counts and classes are exact at any number of bits.

        Raises:
            StatisticsError: another dimension, more rows than a message may have, or means that float32
                does not hold.
        """
        rows = len(statistics)
        if statistics.dimension != self.dimension:
            raise StatisticsError(f"features have {statistics.dimension} values, expected {self.dimension}")
        if rows > self.most_rows:
            raise StatisticsError(f"{rows} rows, a message has at most {self.most_rows}")
        slots = bool(np.count_nonzero(statistics.slots))
        form = _SLOTS * slots + _SQUARES * (statistics.squares is not None)
        head = bytearray([form, self.bits])
        _put(head, [self.dimension, rows])
        classes = statistics.classes.tolist()
        _put(head, list(map(operator.sub, classes, [0, *classes])))
        if slots:
            _put(head, statistics.slots.tolist())
        _put(head, statistics.counts.tolist())
        parts = [statistics.sums if self.bits == 64 else statistics.means]
        if statistics.squares is not None:
            parts.append(statistics.squares if self.bits == 64 else statistics.variances)
        ideal, payload = 8.0 * len(head), bytes(head)
        for number, values in enumerate(parts):
            data, bits = self._values(values)
            ideal += bits
            if number + 1 < len(parts) and self.bits <= 16:  # a coded part says how long it is
                length = bytearray()
                _put(length, [len(data)])
                data = bytes(length) + data
                ideal += 8 * len(length)
            payload += data
        return EncodedStatistics(payload, ideal)

    def decode(self, payload: bytes) -> ClassStatistics:
        """Read statistics.

        Raises:
            StatisticsError: bytes that no statistics of this dimension and these bits are written as.
        """
        reader = _Reader(payload)
        form = reader.byte()
        rows = self._rows(reader, form, len(payload))
        classes = np.array(reader.numbers(rows), dtype=np.int64).cumsum()
        slots = np.array(reader.numbers(rows), np.int64) if form & _SLOTS else np.zeros(rows, np.int64)
        counts = np.array(reader.numbers(rows), dtype=np.int64)
        squares = None
        if form & _SQUARES:
            length = reader.number() if self.bits <= 16 else rows * self.dimension * self.bits // 8
            means = self._read(reader.take(length), rows)
            squares = self._read(reader.rest(), rows)
        else:
            means = self._read(reader.rest(), rows)
        sums = means
        if self.bits < 64:
            sums = means * counts[:, None]
            squares = None if squares is None else (squares.clip(0) + means**2) * counts[:, None]
        found = ClassStatistics.unchecked(classes, slots, counts, sums, squares)
        found.check_rows()  # all else, shapes and types and that values are finite, is so by now
        return found

    def ideal_bits(self, payload: bytes) -> float:
        """What :attr:`EncodedStatistics.ideal_bits` was when a payload was made, for whoever has it alone.

        Raises:
            StatisticsError: bytes that no statistics of this dimension and these bits are written as.
        """
        reader = _Reader(payload)
        form = reader.byte()
        rows = self._rows(reader, form, len(payload))
        ideal, count = 8.0 * len(payload), rows * self.dimension
        if self.bits > 16 or not count:
            return ideal
        reader.numbers(rows * (3 if form & _SLOTS else 2))
        coder = AdaptiveCoder(1 << self.bits)
        for last in (False, True) if form & _SQUARES else (True,):
            coded = (reader.rest() if last else reader.take(reader.number()))[_RANGE_BYTES:]
            try:
                symbols = coder.decode(coded, count)
            except CodingError as error:
                raise StatisticsError(str(error)) from error
            ideal += coder.bits(symbols) - 8.0 * len(coded)
        return ideal

    def _rows(self, reader: _Reader, form: int, size: int) -> int:
        """Rows of a message of this form and size, behind whose form the reader stands."""
        bits, dimension, rows = reader.byte(), reader.number(), reader.number()
        if form > _SLOTS | _SQUARES:
            raise StatisticsError(f"form {form} is none that this version knows")
        if (dimension, bits) != (self.dimension, self.bits):
            found, asked = f"{dimension} values of {bits} bits", f"{self.dimension} of {self.bits}"
            raise StatisticsError(f"statistics of {found}, expected {asked}")
        if rows > min(self.most_rows, size):
            raise StatisticsError(f"{rows} rows, a message of {size} bytes has fewer")
        return rows

    def _values(self, values: NDArray[np.float64]) -> tuple[bytes, float]:
        """Bytes and bits of values [rows, dimension]."""
        if self.bits == 64:
            data = values.astype("<f8").tobytes()
            return data, 8.0 * len(data)
        if np.count_nonzero(np.abs(values) < _FLOAT32_LIMIT) < values.size:
            raise StatisticsError("means beyond float32; 64 bits would hold them")
        short = values.astype("<f4")
        if self.bits == 32:
            return short.tobytes(), 32.0 * short.size
        if not short.size:
            return b"", 0.0
        low, high = short.min(), short.max()
        symbols = _symbols(short, low, high, self.bits)
        coder = AdaptiveCoder(1 << self.bits)
        data = np.array([low, high], dtype="<f4").tobytes()
        return data + coder.encode(symbols), 8.0 * len(data) + coder.bits(symbols)

    def _read(self, data: bytes, rows: int) -> NDArray[np.float64]:
        """The inverse of :meth:`_values`."""
        count = rows * self.dimension
        if self.bits > 16:
            if len(data) != count * self.bits // 8:
                raise StatisticsError(f"{len(data)} bytes for {count} values of {self.bits} bits")
            values = np.frombuffer(data, "<f8" if self.bits == 64 else "<f4").astype(np.float64)
        elif not count:
            if data:
                raise StatisticsError(f"{len(data)} bytes for no values")
            values = np.zeros(0)
        else:
            if len(data) <= _RANGE_BYTES:
                raise StatisticsError(f"{len(data)} bytes for {count} values")
            low, high = np.frombuffer(data[:_RANGE_BYTES], "<f4").astype(np.float64)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise StatisticsError(f"values from {low} to {high}")
            try:
                symbols = AdaptiveCoder(1 << self.bits).decode(data[_RANGE_BYTES:], count)
            except CodingError as error:
                raise StatisticsError(str(error)) from error
            values = low + symbols * ((high - low) / ((1 << self.bits) - 1))
        if np.count_nonzero(np.isfinite(values)) < values.size:
            raise StatisticsError("values that are not finite")
        return values.reshape(rows, self.dimension)


def _symbols(values: NDArray[np.float32], low: np.float32, high: np.float32, bits: int) -> NDArray[np.int32]:
    """Numbers of the nearest of ``2 ** bits`` evenly spaced values, int32 [n]."""
    span = float(high) - float(low)
    steps = (1 << bits) - 1
    if span == 0:
        return np.zeros(values.size, dtype=np.int32)
    shares = (values.astype(np.float64).reshape(-1) - float(low)) / span
    symbols: NDArray[np.int32] = np.rint(shares * steps).astype(np.int32)
    return symbols


def _put(data: bytearray, numbers: list[int]) -> None:
    if max(numbers, default=0) < 128:
        data.extend(numbers)
        return
    for number in numbers:
        left = number
        while left > 127:
            data.append(left & 127 | 128)
            left >>= 7
        data.append(left)


class _Reader:
    """Reads a message from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._data):
            raise StatisticsError(f"statistics end after {len(self._data)} bytes")
        self._at += 1
        return self._data[self._at - 1]

    def number(self) -> int:
        value = 0
        for place, byte in enumerate(self._data[self._at : self._at + _MOST_BYTES_OF_A_VARINT]):
            value |= (byte & 127) << 7 * place
            if byte < 128:
                self._at += place + 1
                return value
        if self._at + _MOST_BYTES_OF_A_VARINT > len(self._data):
            raise StatisticsError(f"statistics end after {len(self._data)} bytes")
        raise StatisticsError("a number of more than 63 bits")

    def numbers(self, count: int) -> list[int]:
        ahead = self._data[self._at : self._at + count]
        if len(ahead) == count and ahead.isascii():  # one byte each
            self._at += count
            return list(ahead)
        return [self.number() for _ in range(count)]

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise StatisticsError(f"statistics end after {len(self._data)} bytes")
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)
