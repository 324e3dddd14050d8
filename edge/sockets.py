"""Bytes that crossed a TCP socket, as the kernel counted them.

gRPC hides its sockets, and what HTTP/2, TLS and acknowledgements add to a message depends on all
that happens on a connection. Linux counts it: ``TCP_INFO`` (``struct tcp_info`` in
``include/uapi/linux/tcp.h``) has the payload bytes and the segments of each direction. The headers
are added here: 20 bytes of IPv4 or 40 of IPv6, 20 of TCP, 12 for the timestamp option where it was
negotiated. Not counted: the further options of the two SYN segments (8 bytes), selective
acknowledgements, and link-layer framing.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

__all__ = ["SocketCounter", "Traffic", "connected_sockets"]

_OPTIONS = 5  # offset of tcpi_options, u8; its bit 0: TCP timestamps
_BYTES_RECEIVED = 128  # u64
_SEGMENTS = 136  # segs_out, segs_in: u32, u32
_BYTES_SENT = 200  # u64, since Linux 4.19
_NEEDED = _BYTES_SENT + 8
_TIMESTAMPS = 1


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a connection carried in both directions since it was opened, or between two readings.

    ``wire_*`` are the stream's bytes with the TCP and IP headers of its segments.
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    segments_sent: int = 0
    segments_received: int = 0
    wire_sent: int = 0
    wire_received: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(*(a - b for a, b in zip(_fields(self), _fields(earlier), strict=True)))

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(a + b for a, b in zip(_fields(self), _fields(other), strict=True)))


def _fields(traffic: Traffic) -> tuple[int, ...]:
    return (
        traffic.bytes_sent,
        traffic.bytes_received,
        traffic.segments_sent,
        traffic.segments_received,
        traffic.wire_sent,
        traffic.wire_received,
    )


class SocketCounter:
    """Reads the kernel's counters of one TCP socket; a reading takes a microsecond or two.

    Args:
        descriptor: an open TCP socket. It is duplicated, so that the counters can still be read when
            its owner has closed it; :meth:`close` gives the duplicate back.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        peer = self.peer
        self._ip_header = 40 if peer is not None and ":" in peer[0] else 20

    def read(self) -> Traffic | None:
        """The counters since the connection was opened; None where the kernel does not have them."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
        except (AttributeError, OSError):
            return None
        if not sys.platform.startswith("linux") or len(info) < _NEEDED:
            return None
        (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED)
        segments_out, segments_in = struct.unpack_from("=II", info, _SEGMENTS)
        (sent,) = struct.unpack_from("=Q", info, _BYTES_SENT)
        header = self._ip_header + 20 + (12 if info[_OPTIONS] & _TIMESTAMPS else 0)
        return Traffic(
            bytes_sent=sent,
            bytes_received=received,
            segments_sent=segments_out,
            segments_received=segments_in,
            wire_sent=sent + header * segments_out,
            wire_received=received + header * segments_in,
        )

    @property
    def peer(self) -> tuple[str, int] | None:
        """IP address and port at the other end; None where it is no connected TCP socket."""
        if (
            self._socket.family not in (socket.AF_INET, socket.AF_INET6)
            or self._socket.type != socket.SOCK_STREAM
        ):
            return None
        try:
            host, port = self._socket.getpeername()[:2]
        except OSError:
            return None
        return _plain(host), port

    @property
    def inode(self) -> int:
        """Number that tells this socket from all others of the machine."""
        return os.fstat(self._socket.fileno()).st_ino

    def close(self) -> None:
        """Give the duplicate back. Idempotent."""
        self._socket.close()

    def __enter__(self) -> SocketCounter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connected_sockets(peers: Iterable[tuple[str, int]]) -> list[SocketCounter]:
    """Counters of this process's TCP sockets that are connected to one of ``peers`` (IP address, port).

    One counter for each socket, however often its descriptor was duplicated. Empty where the system
    does not list descriptors. The caller closes what it gets.
    """
    wanted = {(_plain(host), port) for host, port in peers}
    try:
        descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:
        return []
    # By inode: a descriptor of the listing itself may have become a duplicate.
    found: dict[int, SocketCounter] = {}
    for descriptor in descriptors:
        counter = _counter_if(descriptor, wanted)
        if counter is not None:
            earlier = found.setdefault(counter.inode, counter)
            if earlier is not counter:
                counter.close()
    return list(found.values())


def _counter_if(descriptor: int, wanted: set[tuple[str, int]]) -> SocketCounter | None:
    try:
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
            return None
        counter = SocketCounter(descriptor)
    except OSError:
        return None  # closed meanwhile
    if counter.peer in wanted:
        return counter
    counter.close()
    return None


def _plain(host: str) -> str:
    """An IPv4 address mapped into IPv6, as gRPC's sockets have it: what travels is IPv4."""
    return host.removeprefix("::ffff:")
