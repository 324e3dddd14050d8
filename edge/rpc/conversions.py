"""Between protobuf messages and our own types; the names of the methods."""

from __future__ import annotations

from edge.coding.frame import Handshake, checksum
from edge.rpc import edge_pb2

__all__ = ["DESCRIBE", "INFER", "SERVICE", "STREAM", "from_handshake", "sample_message", "to_handshake"]

#: Full name of the service, as health checks and reflection know it.
SERVICE: str = edge_pb2.DESCRIPTOR.services_by_name["Tail"].full_name
STREAM = f"/{SERVICE}/Stream"
INFER = f"/{SERVICE}/Infer"
DESCRIBE = f"/{SERVICE}/Describe"


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
