"""A TCP relay that is a link: what passes through it takes as long as the link would take.

Needs no privileges. All connections share one uplink and one downlink, or have one each, as the
:class:`~edge.link.spec.LinkSpec` says; :mod:`edge.link.pacing` says when a byte arrives, and the
relay reads, waits and writes accordingly. What it cannot show is what TCP does over the real thing:
its retransmissions, its slow start after a silence, its acknowledgements on the other direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from dataclasses import asdict
from typing import Any

from edge.link.connection import READ_BYTES, Connection, End, Line
from edge.link.errors import LinkError
from edge.link.pacing import Carried
from edge.link.spec import LinkSpec

__all__ = ["Relay"]

_log = logging.getLogger(__name__)

_KERNEL = 64 * 1024  # bytes that the kernel may hold on each side of a connection
_CONNECT_S = 10.0
_REMEMBERED = 4096  # connections that have ended and are still told of
_TIMESTAMPS = 12  # bytes of a TCP header that count towards the segment size


class Relay:
    """Passes TCP connections on to a server, over a link. Made and used within one running event loop.

    A device's connection is opened to the server one delay of the uplink later, and its first byte
    leaves a delay of the downlink after that, as behind a handshake. If the server cannot be
    reached, it is reset; the next one is tried anew. A half-close passes in order with the data, a
    reset at once.

    Args:
        spec: the link.
        listen: HOST:PORT for the devices; port 0 takes a free one.
        connect: HOST:PORT of the server.
        seed: of jitter, loss and contention.
    """

    def __init__(self, spec: LinkSpec, listen: str, connect: str, seed: int = 0) -> None:
        self._spec = spec
        self._listen, self._connect = listen, connect
        self._seed = seed
        self._buffer = bytearray(READ_BYTES)
        self._connections: set[Connection] = set()
        self._past: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._carried = (Carried(), Carried())  # by the lines that are gone, up and down
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._lines: tuple[Line, Line] | None = None
        self._made = 0
        self._started_s = 0.0
        #: HOST:PORT that it listens on, once started.
        self.address = listen

    @property
    def spec(self) -> LinkSpec:
        """The link that it is now."""
        return self._spec

    async def start(self) -> None:
        """Begin to listen; traces begin here too, and with each connection where links are not shared.

        Raises:
            OSError: the address cannot be listened on.
        """
        host, port = _split(self._listen)
        loop = asyncio.get_running_loop()
        try:
            family, kind, protocol, _, where = (
                await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            )[0]
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._configure(listener)
                listener.bind(where)
                self._started_s = time.monotonic()
                if self._spec.sharing != "alone":
                    self._lines = self._new_lines()
                self._server = await loop.create_server(self._accept, sock=listener, backlog=1024)
            except OSError:
                listener.close()
                await self.stop()
                raise
        except OSError as error:
            raise OSError(f"cannot listen on {self._listen}: {error.strerror or error}") from error
        self.address = f"{self._listen.rpartition(':')[0]}:{listener.getsockname()[1]}"

    def change(self, spec: LinkSpec) -> None:
        """Be another link from now on; connections stay, and what is under way arrives as it would have.

        Raises:
            LinkError: one of the two is shared and the other is not.
        """
        if (spec.sharing == "alone") != (self._spec.sharing == "alone"):
            raise LinkError(f"a running link cannot change from {self._spec.sharing} to {spec.sharing}")
        self._spec = spec
        for up, down in self._all_lines():
            up.change(spec.up, spec)
            down.change(spec.down, spec)

    def restart_traces(self) -> None:
        """Let the traces of both directions begin anew now, those of all open connections included."""
        for up, down in self._all_lines():
            up.restart_trace()
            down.restart_trace()

    def counters(self) -> dict[str, Any]:
        """What each direction has carried, in all and by connection, and for how many seconds it has run.

        ``busy_s`` of links that are not shared is the sum of them all.
        """
        up_total, down_total = self._carried
        for up, down in self._all_lines():
            up_total += up.pacer.carried
            down_total += down.pacer.carried
        now = [{**connection.record(), "open": True} for connection in self._connections]
        then = [{**record, "open": False} for record in self._past]
        return {
            "seconds": time.monotonic() - self._started_s,
            "up": asdict(up_total),
            "down": asdict(down_total),
            "connections": then + now,
        }

    async def stop(self) -> None:
        """Stop listening and reset all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._connections:  # until the loop has told each of its end
            for connection in list(self._connections):
                connection.near.reset()
                connection.far.reset()
            await asyncio.sleep(0)
        for line in self._lines or ():
            line.close()

    def _all_lines(self) -> list[tuple[Line, Line]]:
        if self._lines is not None:
            return [self._lines]
        return [(connection.up, connection.down) for connection in self._connections]

    def _new_lines(self) -> tuple[Line, Line]:
        seed = 2 * (self._seed * 1_000_003 + self._made)
        spec = self._spec
        return Line(spec.up, spec, seed), Line(spec.down, spec, seed + 1)

    def _configure(self, endpoint: socket.socket) -> None:
        """Segments of the link's size and little room: a kernel's buffer is no part of the link."""
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL)
        with contextlib.suppress(OSError, AttributeError):  # a size that this system does not have
            endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self._spec.segment + _TIMESTAMPS)

    def _accept(self) -> End:
        self._made += 1
        up, down = self._lines or self._new_lines()
        connection = Connection(up, down, self._buffer, self._ended)
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._open(connection))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._opened(task, connection))
        return connection.near

    def _opened(self, task: asyncio.Task[None], connection: Connection) -> None:
        self._tasks.discard(task)
        if not connection.far.made:  # also if the task was cancelled before it began
            connection.refuse()

    async def _open(self, connection: Connection) -> None:
        await asyncio.sleep(self._spec.up.delay_s)
        try:
            endpoint = await asyncio.wait_for(self._reach(), _CONNECT_S)
            await asyncio.get_running_loop().create_connection(lambda: connection.far, sock=endpoint)
        except (OSError, TimeoutError) as error:
            _log.info("%s cannot be reached: %s", self._connect, error or "no answer")
            return
        connection.far.begin()
        await asyncio.sleep(self._spec.down.delay_s)
        connection.near.begin()

    async def _reach(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        host, port = _split(self._connect)
        refusal = OSError(f"{host} has no address")
        for family, kind, protocol, _, where in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            endpoint = socket.socket(family, kind, protocol)
            try:
                endpoint.setblocking(False)
                self._configure(endpoint)
                await loop.sock_connect(endpoint, where)
            except OSError as error:
                endpoint.close()
                refusal = error
            except asyncio.CancelledError:
                endpoint.close()
                raise
            else:
                return endpoint
        raise refusal

    def _ended(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._past.append(connection.record())
        if self._lines is None:
            up, down = self._carried
            self._carried = (up + connection.up.pacer.carried, down + connection.down.pacer.carried)
            connection.up.close()
            connection.down.close()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
