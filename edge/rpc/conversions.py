"""Between protobuf messages and our own types; the names of the methods."""

from __future__ import annotations

import zlib

from edge.coding.frame import Handshake, checksum
from edge.rpc import edge_pb2

__all__ = [
    "DESCRIBE",
    "GET_PROTOTYPES",
    "INFER",
    "PUSH_STATISTICS",
    "SERVICE",
    "STREAM",
    "from_handshake",
    "sample_message",
    "statistics_checksum",
    "statistics_message",
    "to_handshake",
]

#: Full name of the service, as health checks and reflection know it.
SERVICE: str = edge_pb2.DESCRIPTOR.services_by_name["Tail"].full_name
STREAM = f"/{SERVICE}/Stream"
INFER = f"/{SERVICE}/Infer"
DESCRIBE = f"/{SERVICE}/Describe"
PUSH_STATISTICS = f"/{SERVICE}/PushStatistics"
GET_PROTOTYPES = f"/{SERVICE}/GetPrototypes"


def to_handshake(message: edge_pb2.Handshake) -> Handshake:
    """The handshake of a protobuf message."""
    return Handshake(
        model=message.model,
        tables=message.tables,
        feature_shape=tuple(message.feature_shape),
        protocol=message.protocol,
        client=message.client,
        top=max(1, message.top),
    )


def from_handshake(handshake: Handshake) -> edge_pb2.Handshake:
    """The protobuf message of a handshake."""
    return edge_pb2.Handshake(
        protocol=handshake.protocol,
        model=handshake.model,
        tables=handshake.tables,
        feature_shape=handshake.feature_shape,
        client=handshake.client,
        top=handshake.top,
    )


def sample_message(sample: int, payload: bytes, handshake: Handshake | None = None) -> bytes:
    """The serialised message of one sample: a frame.

    Args:
        sample: number of the sample, 0 to 2**32 - 1.
        payload: the bottleneck's coded bytes.
        handshake: only for a unary call, which carries its own.

    Raises:
        ValueError: a sample number out of range.
    """
    if not 0 <= sample < 1 << 32:
        raise ValueError(f"sample number {sample}, allowed are 0 to {(1 << 32) - 1}")
    message = edge_pb2.Uplink(sample=sample, payload=payload, checksum=checksum(sample, payload))
    if handshake is not None:
        message.handshake.CopyFrom(from_handshake(handshake))
    return message.SerializeToString()


def statistics_checksum(push: bytes, statistics: bytes) -> int:
    """CRC-32 of the id of a push and its class statistics."""
    return zlib.crc32(statistics, zlib.crc32(push))


def statistics_message(handshake: Handshake, push: bytes, bits: int, statistics: bytes) -> bytes:
    """The serialised message of one push.

    Args:
        handshake: of the model that made the features.
        push: its id.
        bits: of a value in the statistics.
        statistics: as :class:`edge.prototypes.StatisticsCodec` writes them with so many bits.
    """
    return edge_pb2.StatisticsMessage(
        handshake=from_handshake(handshake),
        push=push,
        bits=bits,
        statistics=statistics,
        checksum=statistics_checksum(push, statistics),
    ).SerializeToString()
