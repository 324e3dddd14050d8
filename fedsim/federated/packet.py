"""What travels in one message between server and client: named bytes, and the arrays in them.

Flower's own arrays carry a 128-byte header each and are parsed by evaluating it; a prototype of 32 bytes
would drown in that. Here both sides know the names and shapes of what they exchange, and only values
travel, under a digest of what both believe them to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from fedsim.errors import FederationError

__all__ = ["ArraysCodec", "Packet"]

_RECORD = "packet"
_DIGEST_BYTES = 4


@dataclass(frozen=True)
class Packet:
    """Parts by name.

    Args:
        parts: the bytes of each.
        ideal_bits: information of those parts that are entropy coded; of all others it is their size.
    """

    parts: Mapping[str, bytes] = field(default_factory=dict)
    ideal_bits: Mapping[str, float] = field(default_factory=dict)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(map(len, self.parts.values()))

    @property
    def information(self) -> float:
        """Ideal bits of all parts."""
        return sum(self.ideal_bits.get(name, 8.0 * len(part)) for name, part in self.parts.items())

    def __getitem__(self, name: str) -> bytes:
        """A part.

        Raises:
            FederationError: there is none of this name.
        """
        if name not in self.parts:
            raise FederationError(
                f"the message has no part {name!r}; it has {', '.join(self.parts) or 'none'}"
            )
        return self.parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def with_part(self, name: str, payload: bytes, ideal_bits: float | None = None) -> Packet:
        """With one more part."""
        bits = {**self.ideal_bits, **({} if ideal_bits is None else {name: ideal_bits})}
        return Packet({**self.parts, name: payload}, bits)

    def content(self) -> RecordDict:
        """As the content of a Flower message."""
        return RecordDict({_RECORD: ConfigRecord(dict(self.parts))})

    @classmethod
    def of(cls, content: RecordDict) -> Packet:
        """Of the content of a Flower message.

        Raises:
            FederationError: it has other content.
        """
        record = content.get(_RECORD)
        if not isinstance(record, ConfigRecord) or not all(isinstance(v, bytes) for v in record.values()):
            raise FederationError(f"a message without a packet: {', '.join(content) or 'empty'}")
        return cls({str(name): part for name, part in record.items() if isinstance(part, bytes)})


@dataclass(frozen=True)
class ArraysCodec:
    """Arrays of known names, shapes and types, as their values alone.

    Args:
        shapes: shape and type of each, by name.
    """

    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]]  # type: ignore[type-arg]

    @classmethod
    def like(cls, arrays: Mapping[str, NDArray | Tensor]) -> ArraysCodec:  # type: ignore[type-arg]
        """For arrays of the names, shapes and types of these."""
        found = {name: _array(value) for name, value in arrays.items()}
        return cls({name: (array.shape, array.dtype.newbyteorder("<")) for name, array in found.items()})

    @cached_property
    def _digest(self) -> bytes:
        text = json.dumps([[name, list(shape), str(kind)] for name, (shape, kind) in self._sorted()])
        return hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]

    def _sorted(self) -> Iterator[tuple[str, tuple[tuple[int, ...], np.dtype]]]:  # type: ignore[type-arg]
        yield from sorted(self.shapes.items())

    @cached_property
    def size(self) -> int:
        """Bytes of a message."""
        return _DIGEST_BYTES + sum(
            int(np.prod(shape)) * kind.itemsize for shape, kind in self.shapes.values()
        )

    def encode(self, arrays: Mapping[str, NDArray | Tensor]) -> bytes:  # type: ignore[type-arg]
        """The values, one array behind the other in the order of their names.

        Raises:
            FederationError: other names or shapes.
        """
        if set(arrays) != set(self.shapes):
            strange = sorted(set(arrays) ^ set(self.shapes))
            raise FederationError(f"arrays of other names: {', '.join(strange)}")
        parts = [self._digest]
        for name, (shape, kind) in self._sorted():
            value = _array(arrays[name])
            if value.shape != shape:
                raise FederationError(f"{name} has shape {list(value.shape)}, expected {list(shape)}")
            parts.append(np.ascontiguousarray(value, dtype=kind).tobytes())
        return b"".join(parts)

    def decode(self, payload: bytes) -> dict[str, NDArray]:  # type: ignore[type-arg]
        """The arrays of a message.

        Raises:
            FederationError: made of other arrays, another size, or values that are not finite.
        """
        if payload[:_DIGEST_BYTES] != self._digest:
            raise FederationError("arrays of other names, shapes or types than expected")
        if len(payload) != self.size:
            raise FederationError(f"arrays of {len(payload)} bytes, expected {self.size}")
        found, at = {}, _DIGEST_BYTES
        for name, (shape, kind) in self._sorted():
            count = int(np.prod(shape))
            values = np.frombuffer(payload, kind, count, at).reshape(shape)
            if kind.kind == "f" and not np.isfinite(values).all():
                raise FederationError(f"{name} has values that are not finite")
            found[name] = values
            at += count * kind.itemsize
        return found


def _array(value: NDArray | Tensor) -> NDArray:  # type: ignore[type-arg]
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
