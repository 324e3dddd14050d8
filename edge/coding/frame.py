"""What a payload travels in: one handshake a stream, then a number and a checksum a sample.

The messages themselves are protobuf (``edge/rpc/edge.proto``); what has to hold for them stands here.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

__all__ = ["PROTOCOL", "FrameError", "Handshake", "check_sample", "checksum"]

#: Version of the wire contract. Raised with any change that an older peer would misread.
PROTOCOL = 1

INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8


class FrameError(ValueError):
    """A sample that cannot be accepted.

    Attributes:
        code: canonical gRPC status code, INVALID_ARGUMENT (3) or RESOURCE_EXHAUSTED (8).
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Handshake:
    """What two peers have to agree on before a payload means anything.

    Args:
        model: id of the model bundle.
        tables: fingerprint of what both share to decode a payload.
        feature_shape: one sample's features ahead of the bottleneck, without the batch axis.
        protocol: version of the wire contract.
        client: the device's own name, for logs.
        top: number of labels a reply carries.
    """

    model: str
    tables: bytes
    feature_shape: tuple[int, ...]
    protocol: int = PROTOCOL
    client: str = ""
    top: int = 1

    def mismatch(self, other: Handshake) -> str | None:
        """The first thing in which ``other`` (what came) differs from this (what is expected), in words."""
        if self.protocol != other.protocol:
            return f"protocol version: expected {self.protocol}, got {other.protocol}"
        if self.model != other.model:
            return f"model id: expected {self.model!r}, got {other.model!r}"
        if self.tables != other.tables:
            return f"table fingerprint: expected {self.tables.hex()}, got {other.tables.hex() or 'none'}"
        if self.feature_shape != other.feature_shape:
            return f"feature shape: expected {list(self.feature_shape)}, got {list(other.feature_shape)}"
        return None


def checksum(sample: int, payload: bytes) -> int:
    """CRC-32 of the sample number (4 bytes, little endian) and the payload."""
    return zlib.crc32(payload, zlib.crc32(sample.to_bytes(4, "little")))


def check_sample(sample: int, payload: bytes, crc: int, max_payload: int) -> None:
    """Accept a sample or say why not.

    Raises:
        FrameError: an empty payload or a wrong checksum (INVALID_ARGUMENT), or a payload of more
            than ``max_payload`` bytes (RESOURCE_EXHAUSTED).
    """
    if not payload:
        raise FrameError(INVALID_ARGUMENT, f"sample {sample}: empty payload")
    if len(payload) > max_payload:
        raise FrameError(
            RESOURCE_EXHAUSTED,
            f"sample {sample}: payload of {len(payload)} bytes, at most {max_payload} allowed",
        )
    expected = checksum(sample, payload)
    if crc != expected:
        raise FrameError(
            INVALID_ARGUMENT,
            f"sample {sample}: checksum {crc:08x} does not match its {len(payload)} bytes ({expected:08x})",
        )
