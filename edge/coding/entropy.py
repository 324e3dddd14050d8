"""The entropy coder: int32 symbols to bytes and back, on integer frequency tables.

A range coder (``constriction``) codes the symbols channel by channel. A symbol outside its table's
support is coded as the table's escape; what the escapes stand for follows behind the last channel
(:mod:`edge.coding.escape`), so that every int32 symbol round-trips exactly.

Where the table of a symbol depends on symbols before it, a payload is written and read in parts
(:class:`SymbolWriter`, :class:`SymbolReader`): one stream, in which each part is complete, escapes and
all, before the next begins.

constriction turns floating-point weights into fixed-point frequencies in a way that is exact for
weights ``frequency - 1``: their sum is its free weight, so that its scale is exactly 1. The
frequencies that it codes with are hence those of the tables, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np
from numpy.typing import NDArray

from edge.coding.escape import LENGTH_BITS, MAX_LENGTH, from_values, lengths_of, to_values
from edge.coding.tables import FrequencyTables

__all__ = ["CodingError", "EntropyCoder", "SymbolReader", "SymbolWriter", "opened", "shortest"]

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
        encoder = constriction.stream.queue.RangeEncoder()
        counts = [symbols.shape[1]] * self.tables.channels
        _encode_part(encoder, self._models, counts, symbols - self._offsets, self._escapes)
        return shortest(encoder)

    def decode(self, payload: bytes, count: int) -> NDArray[np.int32]:
        """The symbols [channels, count] of a payload.

        Damage is for the frame's checksum to find; here it may go unseen, but it never crashes.

        Raises:
            CodingError: an empty payload, or bytes that no symbols are coded as.
        """
        decoder = opened(payload)
        shape = (self.tables.channels, count)
        index = _decode_part(decoder, self._models, [count] * shape[0], shape, self._escapes)
        return _within_int32(index + self._offsets)

    def writer(self) -> SymbolWriter:
        """Writes one payload, part by part."""
        return SymbolWriter(self)

    def reader(self, payload: bytes) -> SymbolReader:
        """Reads what :meth:`writer` wrote, part by part.

        Raises:
            CodingError: an empty payload.
        """
        return SymbolReader(self, payload)


class _Groups:
    """The order in which a part is coded: table by table, and within a table as the symbols come.

    Args:
        coder: has the tables.
        tables: index of each symbol's table, int64 [n].

    Raises:
        ValueError: another shape or type, or an index that no table has.
    """

    def __init__(self, coder: EntropyCoder, tables: NDArray[np.int64]) -> None:
        if tables.ndim != 1 or tables.dtype != np.int64:
            raise ValueError(f"table indices {tables.dtype}{list(tables.shape)}, expected int64[n]")
        last = coder.tables.channels - 1
        if tables.size and not 0 <= tables.min() <= tables.max() <= last:
            raise ValueError(f"table indices {tables.min()} to {tables.max()}, expected 0 to {last}")
        sizes = np.bincount(tables, minlength=last + 1)
        used = np.flatnonzero(sizes)
        self.counts: list[int] = sizes[used].tolist()
        self.models = [coder._models[table] for table in used]
        self.order = np.argsort(tables, kind="stable")
        by_table = tables[self.order]
        self.offsets = coder._offsets[by_table, 0]
        self.escapes = coder._escapes[by_table, 0]


class SymbolWriter:
    """Codes symbols, each under a table of its own choice, part by part into one payload.

    >>> tables = FrequencyTables.from_probabilities([np.array([0.5, 0.5]), np.array([0.9])], [0, 7])
    >>> coder = EntropyCoder(tables)
    >>> writer = coder.writer()
    >>> writer.put(np.array([0, 7, 1], dtype=np.int32), np.array([0, 1, 0]))
    >>> reader = coder.reader(writer.payload())
    >>> reader.take(np.array([0, 1, 0])).tolist()
    [0, 7, 1]
    """

    def __init__(self, coder: EntropyCoder) -> None:
        self._coder = coder
        self._encoder = constriction.stream.queue.RangeEncoder()

    def put(self, symbols: NDArray[np.int32], tables: NDArray[np.int64]) -> None:
        """Code a part.

        Args:
            symbols: int32 [n].
            tables: index of each symbol's table, int64 [n].

        Raises:
            ValueError: another shape or type, or an index that no table has.
        """
        if symbols.shape != tables.shape or symbols.dtype != np.int32:
            raise ValueError(
                f"symbols {symbols.dtype}{list(symbols.shape)}, expected int32{list(tables.shape)}"
            )
        groups = _Groups(self._coder, tables)
        index = symbols[groups.order] - groups.offsets
        _encode_part(self._encoder, groups.models, groups.counts, index, groups.escapes)

    def payload(self) -> bytes:
        """All parts so far. At least one byte, no padding."""
        return shortest(self._encoder)


class SymbolReader:
    """Decodes the parts of a payload in the order in which :class:`SymbolWriter` was given them."""

    def __init__(self, coder: EntropyCoder, payload: bytes) -> None:
        self._coder = coder
        self._decoder = opened(payload)

    def take(self, tables: NDArray[np.int64]) -> NDArray[np.int32]:
        """The symbols of the next part, int32 [n].

        Damage may go unseen, but it never crashes.

        Args:
            tables: index of each symbol's table, int64 [n].

        Raises:
            CodingError: bytes that no symbols are coded as.
            ValueError: another shape or type, or an index that no table has.
        """
        groups = _Groups(self._coder, tables)
        index = _decode_part(self._decoder, groups.models, groups.counts, tables.shape, groups.escapes)
        symbols = np.empty(len(tables), dtype=np.int32)
        symbols[groups.order] = _within_int32(index + groups.offsets)
        return symbols


def _encode_part(
    encoder: constriction.stream.queue.RangeEncoder,
    models: Sequence[object],
    counts: Sequence[int],
    index: NDArray[np.int64],
    escapes: NDArray[np.int64],
) -> None:
    """Code table indices, and the escapes among them behind them.

    Args:
        encoder: takes them.
        models: one for each group of indices.
        counts: size of each group.
        index: the groups one behind the other, in any shape.
        escapes: index of the escape, of a shape that broadcasts to that of ``index``.
    """
    outside = (index < 0) | (index >= escapes)
    escaped = bool(outside.any())
    coded = (np.where(outside, escapes, index) if escaped else index).astype(np.int32).reshape(-1)
    start = 0
    for model, count in zip(models, counts, strict=True):
        encoder.encode(coded[start : start + count], model)
        start += count
    if escaped:
        support = np.broadcast_to(escapes, index.shape)[outside]
        _encode_escapes(encoder, to_values(index[outside], support))


def _decode_part(
    decoder: constriction.stream.queue.RangeDecoder,
    models: Sequence[object],
    counts: Sequence[int],
    shape: tuple[int, ...],
    escapes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The inverse of :func:`_encode_part`: indices of the given shape.

    Raises:
        CodingError: bytes that no symbols are coded as.
    """
    flat = np.empty(sum(counts), dtype=np.int64)
    index = flat.reshape(shape)
    start = 0
    try:
        for model, count in zip(models, counts, strict=True):
            flat[start : start + count] = decoder.decode(model, count)
            start += count
        outside = index == escapes
        if outside.any():
            support = np.broadcast_to(escapes, shape)[outside]
            index[outside] = from_values(_decode_escapes(decoder, int(outside.sum())), support)
    except AssertionError as error:  # constriction's word for data that no encoder produces
        raise CodingError(f"not a payload of these tables: {error}") from error
    return index


def opened(payload: bytes) -> constriction.stream.queue.RangeDecoder:
    """A decoder that reads a payload of :func:`shortest`, and zeros behind it.

    Raises:
        CodingError: an empty payload.
    """
    if not payload:
        raise CodingError("empty payload")
    words = np.frombuffer(payload + bytes(-len(payload) % 4), dtype=">u4").astype(np.uint32)
    return constriction.stream.queue.RangeDecoder(words)


def _within_int32(symbols: NDArray[np.int64]) -> NDArray[np.int32]:
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


def shortest(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
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
                # Whether the interval's beginning carries into the words before depends on the point.
                carry = (point > _STATE_MASK) - (sealed < lower)
                head = data[: -4 * trailing]
                if carry:
                    head = (int.from_bytes(head, "big") + carry).to_bytes(len(head), "big")
                data = head + (point & _STATE_MASK).to_bytes(8, "big")[:kept]
                break
    return data.rstrip(b"\0") or b"\0"
