"""The entropy coder: int32 symbols to bytes and back, on integer frequency tables.

A range coder (``constriction``) codes the symbols channel by channel. A symbol outside its table's
support is coded as the table's escape; what the escapes stand for follows behind the last channel
(:mod:`edge.coding.escape`), so that every int32 symbol round-trips exactly.

constriction turns floating-point weights into fixed-point frequencies in a way that is exact for
weights ``frequency - 1``: their sum is its free weight, so that its scale is exactly 1. The
frequencies that it codes with are hence those of the tables, on every machine.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

from edge.coding.escape import LENGTH_BITS, MAX_LENGTH, from_values, lengths_of, to_values
from edge.coding.tables import FrequencyTables

__all__ = ["CodingError", "EntropyCoder"]

_CHUNK = 16  # bits of an escaped value that are coded at a time
_WORD = 32
_STATE_MASK = (1 << 64) - 1
_INT32 = np.iinfo(np.int32)
_uniform = constriction.stream.model.Uniform


class CodingError(ValueError):
    """Bytes that do not decode under these tables."""


class EntropyCoder:
    """Codes symbols [channels, n] under one frequency table for each channel."""

    def __init__(self, tables: FrequencyTables) -> None:
        self.tables = tables
        categorical = constriction.stream.model.Categorical
        self._models = [
            categorical(table.astype(np.float64) - 1.0, perfect=False) for table in tables.frequencies
        ]
        self._offsets = tables.offsets.astype(np.int64)[:, None]
        self._escapes = np.array([len(table) - 1 for table in tables.frequencies], dtype=np.int64)[:, None]

    def encode(self, symbols: NDArray[np.int32]) -> bytes:
        """Code int32 symbols [channels, n]. At least one byte, no padding.

        Raises:
            ValueError: another number of channels, or symbols that are not int32.
        """
        if symbols.ndim != 2 or symbols.shape[0] != self.tables.channels or symbols.dtype != np.int32:
            raise ValueError(
                f"symbols {symbols.dtype}{list(symbols.shape)}, expected int32[{self.tables.channels}, n]"
            )
        index = symbols - self._offsets
        outside = (index < 0) | (index >= self._escapes)
        escaped = bool(outside.any())
        coded = (np.where(outside, self._escapes, index) if escaped else index).astype(np.int32)
        encoder = constriction.stream.queue.RangeEncoder()
        for model, row in zip(self._models, coded, strict=True):
            encoder.encode(row, model)
        if escaped:
            support = np.broadcast_to(self._escapes, index.shape)[outside]
            _encode_escapes(encoder, to_values(index[outside], support))
        return _shortest(encoder)

    def decode(self, payload: bytes, count: int) -> NDArray[np.int32]:
        """The symbols [channels, count] of a payload.

        Damage is for the frame's checksum to find; here it may go unseen, but it never crashes.

        Raises:
            CodingError: an empty payload, or bytes that no symbols are coded as.
        """
        if not payload:
            raise CodingError("empty payload")
        words = np.frombuffer(payload + bytes(-len(payload) % 4), dtype=">u4").astype(np.uint32)
        decoder = constriction.stream.queue.RangeDecoder(words)
        index = np.empty((self.tables.channels, count), dtype=np.int64)
        try:
            for channel, model in enumerate(self._models):
                index[channel] = decoder.decode(model, count)
            outside = index == self._escapes
            if outside.any():
                support = np.broadcast_to(self._escapes, index.shape)[outside]
                index[outside] = from_values(_decode_escapes(decoder, int(outside.sum())), support)
        except AssertionError as error:  # constriction's word for data that no encoder produces
            raise CodingError(f"not a payload of these tables: {error}") from error
        symbols = index + self._offsets
        if symbols.size and (symbols.min() < _INT32.min or symbols.max() > _INT32.max):
            raise CodingError("not a payload of these tables: an escaped symbol beyond int32")
        return symbols.astype(np.int32)


def _encode_escapes(encoder: constriction.stream.queue.RangeEncoder, values: NDArray[np.int64]) -> None:
    lengths = lengths_of(values)
    encoder.encode(lengths.astype(np.int32), _uniform(1 << LENGTH_BITS))
    for length in np.unique(lengths):
        group = values[lengths == length]
        for low, width in _chunks(int(length) - 1):
            encoder.encode(((group >> low) & ((1 << width) - 1)).astype(np.int32), _uniform(1 << width))


def _decode_escapes(decoder: constriction.stream.queue.RangeDecoder, count: int) -> NDArray[np.int64]:
    lengths = decoder.decode(_uniform(1 << LENGTH_BITS), count).astype(np.int64)
    if lengths.min() < 2 or lengths.max() > MAX_LENGTH:
        raise CodingError("not a payload of these tables: an escape of impossible length")
    values: NDArray[np.int64] = np.left_shift(np.int64(1), lengths - 1)
    for length in np.unique(lengths):
        members = lengths == length
        for low, width in _chunks(int(length) - 1):
            chunk = decoder.decode(_uniform(1 << width), int(members.sum())).astype(np.int64)
            values[members] |= chunk << low
    return values


def _chunks(bits: int) -> list[tuple[int, int]]:
    """(position, width) of the pieces in which the low ``bits`` of a value are coded."""
    return [(low, min(_CHUNK, bits - low)) for low in range(0, bits, _CHUNK)]


def _shortest(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
    """The shortest byte string that decodes to what was encoded, where the decoder reads zeros behind it.

    constriction ends on a whole 32-bit word. Any point of the coder's last interval will do, so the
    one with the most trailing zero bytes is taken, and zero bytes at the end are left out: 2 to 3
    bytes less, which is a tenth of a 30-byte payload.
    """
    words = encoder.get_compressed()
    data = words.astype(">u4").tobytes()
    _, (lower, width) = encoder.pos()
    sealed = (lower + (1 << _WORD) - 1) & _STATE_MASK
    trailing = 2 if (((lower + width) & _STATE_MASK) >> _WORD) == sealed >> _WORD else 1
    if len(words) >= trailing:
        for kept in range(1, 5):
            step = 1 << (64 - 8 * kept)
            point = -(-lower // step) * step
            if point - lower < width:
                # A carry out of the interval is already in the words before only if sealing carried, too.
                if (point > _STATE_MASK) == (sealed < lower):
                    head = data[: -4 * trailing]
                    data = head + (point & _STATE_MASK).to_bytes(8, "big")[:kept]
                break
    return data.rstrip(b"\0") or b"\0"
