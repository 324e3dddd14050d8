"""A relayed connection: its two ends, and the lines of the link that its bytes take between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

from edge.alarm import Alarm
from edge.link.pacing import Flow, Pacer
from edge.link.spec import Direction, LinkSpec

__all__ = ["READ_BYTES", "Connection", "End", "Line"]

#: Bytes to read at once, at most: the size of the buffer that all ends share.
READ_BYTES = 64 * 1024

_WINDOW = 4 * 1024 * 1024  # bytes of a connection that may be under way, beside what the link holds
_GRAIN_S = 2e-4  # the least time between two deliveries: a relay has to share its processor
_RESET = struct.pack("ii", 1, 0)


class Line:
    """One direction of a link that runs: its pacer, and the alarm that drives it.

    Made within the running event loop, whose clock it goes by.
    """

    def __init__(self, direction: Direction, spec: LinkSpec, seed: int) -> None:
        self._now = asyncio.get_running_loop().time
        self.pacer: Pacer[End] = Pacer(direction, spec, self._now(), seed)
        self.paused: set[End] = set()  # whose connections have more to send than may wait
        self._alarm = Alarm(self._deliver)
        self._delivered_s = 0.0
        self._limit(direction)

    def _limit(self, direction: Direction) -> None:
        self.queue_limit = direction.queue_limit
        finite = direction.mean_bps if direction.mean_bps < float("inf") else 0.0
        self.window = _WINDOW + int(finite * (direction.delay_s + direction.jitter_s) / 4)

    def change(self, direction: Direction, spec: LinkSpec) -> None:
        """Be another line from now on."""
        self.pacer.change(direction, spec, self._now())
        self._limit(direction)
        self._deliver()

    def restart_trace(self) -> None:
        """Let the trace, if there is one, begin anew."""
        self.pacer.restart_trace(self._now())
        self._wake()

    def put(self, flow: Flow[End], data: bytes) -> None:
        """Send ``data``."""
        self.pacer.put(flow, data, self._now())
        self._wake()

    def end(self, flow: Flow[End]) -> None:
        """End a stream, behind what it has put."""
        self.pacer.end(flow, self._now())
        self._wake()

    def drop(self, flow: Flow[End]) -> None:
        """Forget what waits of a stream."""
        self.pacer.drop(flow, self._now())
        self._wake()

    def close(self) -> None:
        """Deliver no more. Idempotent."""
        self._alarm.close()

    def _wake(self) -> None:
        due = self.pacer.due()
        if due is None:
            self._alarm.set(None)
            return
        at = max(due, self._delivered_s + _GRAIN_S)
        if at <= self._now():
            self._deliver()  # which leaves at least a grain to the next
        else:
            self._alarm.set(at)

    def _deliver(self) -> None:
        self._delivered_s = self._now()
        together: dict[End, list[bytes]] = {}
        ended = []
        for flow, data in self.pacer.arrived(self._delivered_s):
            if data is None:
                ended.append(flow.key)
            else:
                together.setdefault(flow.key, []).append(data)
        for sink, parts in together.items():
            sink.write(b"".join(parts))
        for sink in ended:
            sink.write_end()
        for source in list(self.paused):
            source.read_on()
        self._wake()


class End(asyncio.BufferedProtocol):
    """One end of a connection: what it reads goes to its partner over a line, and the other way round.

    Args:
        line: what its bytes take.
        buffer: of ``READ_BYTES``, to read into; ends may share it.
        lost: called when its socket is closed.
    """

    partner: End
    flow: Flow[End]  #: what it has read, on the line

    def __init__(self, line: Line, buffer: bytearray, lost: Callable[[], None]) -> None:
        self._line = line
        self._buffer = buffer
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._inside = 0  # bytes that were read and not written yet
        self._finished = False  # its partner's stream has ended, and it knows
        self._begun = False  # there is a partner
        self._early: list[bytes] = []  # what came before that
        self._early_end = False
        self.made = False  # it has been connected, now or before
        self.peer = ""

    def join(self, partner: End) -> None:
        """Carry what this one reads to ``partner``."""
        self.partner = partner
        self.flow = Flow(partner)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the partner, which the event loop has not connected yet.

        The event loop of Python 3.11.2, which Debian 12 has, reads all the same; what comes then is kept.
        """
        self._transport = cast(asyncio.Transport, transport)
        self._transport.pause_reading()
        self.made = True
        if (name := self._transport.get_extra_info("peername")) is not None:  # None: gone already
            self.peer = f"{name[0]}:{name[1]}"

    def begin(self) -> None:
        """Read, now that there is a partner."""
        self._begun = True
        for data in self._early:
            self._line.put(self.flow, data)
        self._early.clear()
        if self._early_end:
            self._line.end(self.flow)
        if self._transport is not None and not self._is_full(1.0):
            self._transport.resume_reading()
        elif self._transport is not None:
            self._line.paused.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for what may wait, as the event loop asks for it."""
        room = self._line.queue_limit - self.flow.waiting
        return memoryview(self._buffer)[: max(1, min(READ_BYTES, room))]

    def buffer_updated(self, nbytes: int) -> None:
        """Send what was read, and read no more for now if the queue is full."""
        self._inside += nbytes
        data = bytes(memoryview(self._buffer)[:nbytes])
        if not self._begun:
            self._early.append(data)
            if self._transport is not None:  # which thinks that it does not read
                self._transport.resume_reading()
                self._transport.pause_reading()
            return
        self._line.put(self.flow, data)
        if self._is_full(1.0) and self._transport is not None:
            self._transport.pause_reading()
            self._line.paused.add(self)

    def read_on(self) -> None:
        """Read again if half of what may wait has gone."""
        if self in self._line.paused and self._transport is not None and not self._is_full(0.5):
            self._line.paused.discard(self)
            self._transport.resume_reading()

    def _is_full(self, share: float) -> bool:
        stuck = self.partner.unsent
        line = self._line
        return self.flow.waiting >= line.queue_limit * share or self._inside + stuck >= line.window * share

    @property
    def unsent(self) -> int:
        """Bytes that its peer does not take."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Its peer takes what it is sent again."""
        self.partner.read_on()

    def write(self, data: bytes) -> None:
        """Pass on what has arrived from its partner."""
        self.partner._inside -= len(data)
        if self._transport is not None:
            self._transport.write(data)

    def write_end(self) -> None:
        """Pass on that its partner's stream has ended."""
        self._finished = True
        if self._transport is None:
            return
        with contextlib.suppress(OSError):  # reset meanwhile: connection_lost follows
            self._transport.write_eof()
        if self.partner._finished:
            self.partner.close()
            self.close()

    def eof_received(self) -> bool:
        """Its peer's stream has ended."""
        if self._begun:
            self._line.end(self.flow)
        else:
            self._early_end = True
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever; so is its partner."""
        self._transport = None
        self._line.paused.discard(self)
        self._line.drop(self.flow)
        self.partner.reset()
        self._lost()

    def close(self) -> None:
        """Close in order: what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close as a peer that is gone; without effect on one that is closed already."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                endpoint = self._transport.get_extra_info("socket")
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()


class Connection:
    """A device's connection, and the relay's to the server."""

    def __init__(self, up: Line, down: Line, buffer: bytearray, ended: Callable[[Connection], None]) -> None:
        self.up, self.down = up, down
        self._open = 2
        self._ended = ended
        self.near = End(up, buffer, self._lost)
        self.far = End(down, buffer, self._lost)
        self.near.join(self.far)
        self.far.join(self.near)

    def _lost(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._ended(self)

    def refuse(self) -> None:
        """There is no server to go on to."""
        self.near.reset()
        self._lost()

    def record(self) -> dict[str, Any]:
        """What it has carried."""
        return {
            "peer": self.near.peer,
            "up": asdict(self.near.flow.carried),
            "down": asdict(self.far.flow.carried),
        }
