"""A stream of which every prefix decodes, as far as it goes.

::

    row 0 | more? | row 1 | more? | ... | last row          one range coder, nothing between the rows

Bytes stand for an interval of numbers: all that begin with them. What the lowest and the highest of
these decode to alike, every continuation decodes to. So a prefix gives exactly the rows that it
settles, without a length or a mark anywhere; and a stream ends with bytes that settle its last row.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

from edge.coding.entropy import CodingError
from edge.coding.tables import FrequencyTables

__all__ = ["ProgressiveCoder"]

_WORD = 32
_STATE_MASK = (1 << 64) - 1
_more = constriction.stream.model.Uniform(2)


class ProgressiveCoder:
    """Codes symbols [rows, n], row ``r`` under table ``r``, with as many rows as one likes to send.

    A payload says how many rows it has: one bit behind each row but the last of the tables. Without
    its end it still decodes to the rows that are whole. Symbols have to lie within the tables'
    support.
    """

    def __init__(self, tables: FrequencyTables) -> None:
        self.tables = tables
        categorical = constriction.stream.model.Categorical
        # Weights `frequency - 1` make constriction code with exactly these frequencies: see EntropyCoder.
        self._models = [
            categorical(table.astype(np.float64) - 1.0, perfect=False) for table in tables.frequencies
        ]
        self._supports = [len(table) - 1 for table in tables.frequencies]

    def encode(self, symbols: NDArray[np.int32]) -> bytes:
        """Code int32 symbols [rows, n] with 1 to as many rows as there are tables, n at least 1.

        Raises:
            ValueError: another shape or type, or a symbol outside its table's support.
        """
        rows = len(self._models)
        if (
            symbols.ndim != 2
            or symbols.dtype != np.int32
            or not 1 <= len(symbols) <= rows
            or not symbols.size
        ):
            raise ValueError(
                f"symbols {symbols.dtype}{list(symbols.shape)}, expected int32[1..{rows}, 1 or more]"
            )
        encoder = constriction.stream.queue.RangeEncoder()
        for row, line in enumerate(symbols):
            index = line - self.tables.offsets[row]
            if index.min() < 0 or index.max() >= self._supports[row]:
                raise ValueError(f"row {row} has symbols outside the support of its table")
            encoder.encode(index, self._models[row])
            if row + 1 < rows:
                encoder.encode(int(row + 1 < len(symbols)), _more)
        return _settled(encoder)

    def decode(self, payload: bytes, count: int) -> NDArray[np.int32]:
        """The whole rows of ``count`` symbols each in a payload, or in a prefix of one: [1 or more, count].

        Raises:
            CodingError: not one whole row, or bytes that no symbols are coded as.
        """
        # A symbol takes at most 24 bits, so that these many words are more than all rows read.
        behind = len(self._models) * (count + 1) + 4
        try:
            lowest, highest = (_decoder(payload, fill, behind) for fill in (b"\0", b"\xff"))
        except AssertionError as error:
            raise CodingError(f"not a payload of these tables: {error}") from error
        whole: list[NDArray[np.int32]] = []
        for row, model in enumerate(self._models):
            line = _alike(lowest, highest, model, count)
            if line is None:
                break
            if int(line.max()) >= self._supports[row]:
                raise CodingError(
                    f"not a payload of these tables: row {row} has a symbol outside its support"
                )
            whole.append(line + self.tables.offsets[row])
            if row + 1 < len(self._models):
                more = _alike(lowest, highest, _more, 1)
                if more is None or not more[0]:
                    break
        if not whole:
            raise CodingError(f"payload of {len(payload)} bytes without one whole row")
        return np.stack(whole).astype(np.int32)


def _decoder(payload: bytes, fill: bytes, behind: int) -> constriction.stream.queue.RangeDecoder:
    """A decoder of the payload with ``behind`` words and more of ``fill`` behind it."""
    data = payload + fill * (-len(payload) % 4 + 4 * behind)
    return constriction.stream.queue.RangeDecoder(np.frombuffer(data, dtype=">u4").astype(np.uint32))


def _alike(
    lowest: constriction.stream.queue.RangeDecoder,
    highest: constriction.stream.queue.RangeDecoder,
    model: constriction.stream.model.Model,
    count: int,
) -> NDArray[np.int32] | None:
    """The next ``count`` symbols, if every continuation has them."""
    try:
        low, high = lowest.decode(model, count), highest.decode(model, count)
    except AssertionError:  # constriction's word for a number that no encoder produces
        return None
    same: NDArray[np.int32] | None = low if np.array_equal(low, high) else None
    return same


def _settled(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
    """The shortest byte string of which every continuation decodes to what was encoded.

    constriction ends on a whole 32-bit word. Here the number with the fewest bytes is taken whose every
    continuation stays in the coder's last interval.
    """
    words = encoder.get_compressed()
    data: bytes = words.astype(">u4").tobytes()
    _, (lower, width) = encoder.pos()
    sealed = (lower + (1 << _WORD) - 1) & _STATE_MASK
    trailing = 2 if (((lower + width) & _STATE_MASK) >> _WORD) == sealed >> _WORD else 1
    if len(words) >= trailing:
        for kept in range(1, 6):
            step = 1 << (64 - 8 * kept)
            point = -(-lower // step) * step
            if point + step <= lower + width:
                # A carry out of the interval is already in the words before only if sealing carried, too.
                if (point > _STATE_MASK) == (sealed < lower):
                    data = data[: -4 * trailing] + (point & _STATE_MASK).to_bytes(8, "big")[:kept]
                break
    return data
