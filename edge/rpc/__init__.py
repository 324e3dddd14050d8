"""The wire contract in code: generated messages, method names, and conversions to our own types.

The stubs are made from ``edge.proto``, in the root of the repository, with::

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. edge/rpc/edge.proto

Client and server move raw bytes and (de)serialise by themselves, so that a frame's size is known to
the byte and garbage is answered with INVALID_ARGUMENT, where gRPC's own stubs answer INTERNAL.
"""

from edge.rpc.conversions import (
    DESCRIBE,
    GET_PROTOTYPES,
    INFER,
    PUSH_STATISTICS,
    SERVICE,
    STREAM,
    from_handshake,
    sample_message,
    statistics_checksum,
    statistics_message,
    to_handshake,
)
from edge.rpc.edge_pb2 import (
    DescribeRequest,
    Description,
    Downlink,
    PrototypesReply,
    PrototypesRequest,
    StatisticsMessage,
    StatisticsReply,
    Timing,
    Uplink,
    Welcome,
)

__all__ = [
    "DESCRIBE",
    "GET_PROTOTYPES",
    "INFER",
    "PUSH_STATISTICS",
    "SERVICE",
    "STREAM",
    "DescribeRequest",
    "Description",
    "Downlink",
    "PrototypesReply",
    "PrototypesRequest",
    "StatisticsMessage",
    "StatisticsReply",
    "Timing",
    "Uplink",
    "Welcome",
    "from_handshake",
    "sample_message",
    "statistics_checksum",
    "statistics_message",
    "to_handshake",
]
