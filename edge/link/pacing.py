"""When packets leave a link, and when they arrive: one direction of it, without a clock of its own.

A packet's times follow from those of the packets before it (``finish = start + bits / rate``) and
not from when somebody looked, so that a caller who comes late delivers late, once, and no error adds
up. There is no bucket of tokens: the first packet after a silence takes its time like any other.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edge.link.spec import Direction, LinkSpec, slotted_efficiency

__all__ = ["Carried", "Flow", "Pacer"]

K = TypeVar("K")


@dataclass(slots=True)
class Carried:
    """What a direction has carried, or one connection on it.

    A packet counts once, however often it was sent; ``wire_bytes`` and ``busy_s`` count each time,
    and in ``busy_s`` also the slots that contention wasted.
    """

    stream_bytes: int = 0
    packets: int = 0
    transmissions: int = 0
    wire_bytes: int = 0
    busy_s: float = 0.0

    def add(self, stream_bytes: int, wire_bytes: int, times: int, busy_s: float) -> None:
        """Count a packet that was sent ``times`` times and took ``busy_s``."""
        self.stream_bytes += stream_bytes
        self.packets += 1
        self.transmissions += times
        self.wire_bytes += times * wire_bytes
        self.busy_s += busy_s

    def __add__(self, other: Carried) -> Carried:
        return Carried(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


class Flow(Generic[K]):
    """One connection's data in one direction. ``key`` is the caller's."""

    __slots__ = ("_arrived", "_taken", "carried", "closing", "key", "latest_s", "waiting")

    def __init__(self, key: K) -> None:
        self.key = key
        self.carried = Carried()
        self.waiting = 0  #: bytes that no packet has taken yet
        self.closing = False  #: the stream ends behind what waits
        self.latest_s = -math.inf  #: when its last packet arrives
        self._arrived: deque[bytes] = deque()
        self._taken = 0  # bytes of the first of them

    def put(self, data: bytes) -> None:
        """Let ``data`` wait behind what waits already."""
        self._arrived.append(data)
        self.waiting += len(data)

    def take(self, most: int) -> bytes:
        """The next bytes, as many as there are up to ``most``."""
        parts = []
        while most and self._arrived:
            first = self._arrived[0]
            part = first[self._taken : self._taken + most]  # of all of it: no copy
            parts.append(part)
            most -= len(part)
            self.waiting -= len(part)
            self._taken += len(part)
            if self._taken == len(first):
                self._arrived.popleft()
                self._taken = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(order=True, slots=True)
class _Arrival(Generic[K]):
    at_s: float
    number: int
    flow: Flow[K] = field(compare=False)
    data: bytes | None = field(compare=False)  # None: the end of the stream


class Pacer(Generic[K]):
    """One direction of a link that its flows share.

    All times are the caller's, in seconds from any origin, and must not decrease.

    Args:
        direction: rate, delay, jitter and loss.
        spec: how the flows share it, and the size of packets.
        now: when a trace begins, unless :meth:`restart_trace` says otherwise.
        seed: of jitter, loss and contention.
    """

    def __init__(self, direction: Direction, spec: LinkSpec, now: float, seed: int) -> None:
        self.carried = Carried()
        self._random = random.Random(seed)
        self._turns: deque[tuple[Flow[K], int]] = deque()  # whose turn it is, and (fifo) for how many bytes
        self._backlogged = 0  # flows that have bytes waiting
        self._free_s = now  # when the packet in service has left
        self._arrivals: list[_Arrival[K]] = []
        self._number = 0
        self._set(direction, spec, now)

    def _set(self, direction: Direction, spec: LinkSpec, began_s: float) -> None:
        self._direction, self._spec, self._began_s = direction, spec, began_s

    def change(self, direction: Direction, spec: LinkSpec, now: float) -> None:
        """Go on as ``direction`` and ``spec`` say; a trace that was not there before begins now.

        The packet in service ends as it began, and what is under way arrives as it would have. What
        waits keeps its order.
        """
        self._serve(now)
        same = direction.trace == self._direction.trace
        fifo = spec.sharing == "fifo"
        if fifo != (self._spec.sharing == "fifo"):
            flows = dict.fromkeys(flow for flow, _ in self._turns)
            self._turns = deque((flow, flow.waiting if fifo else 0) for flow in flows)
        self._set(direction, spec, self._began_s if same else now)

    def restart_trace(self, now: float) -> None:
        """Let the trace, if there is one, begin anew; the packet in service ends as it began."""
        self._serve(now)
        self._began_s = now

    def put(self, flow: Flow[K], data: bytes, now: float) -> None:
        """``data`` of a flow comes to the link, in time for a packet that begins right now."""
        self._serve(math.nextafter(now, -math.inf))
        if not self._turns:
            self._free_s = max(self._free_s, now)
        if not flow.waiting:
            self._backlogged += 1
        if self._spec.sharing != "fifo":
            if not flow.waiting:
                self._turns.append((flow, 0))
        elif self._turns and self._turns[-1][0] is flow:
            self._turns[-1] = (flow, self._turns[-1][1] + len(data))
        else:
            self._turns.append((flow, len(data)))
        flow.put(data)

    def end(self, flow: Flow[K], now: float) -> None:
        """The stream of a flow ends behind what it has put."""
        self._serve(now)
        if flow.waiting:
            flow.closing = True
        else:
            self._close(flow, max(now, self._free_s))

    def drop(self, flow: Flow[K], now: float) -> None:
        """Forget a flow and what waits of it; what is under way is the caller's to ignore."""
        self._serve(now)
        if flow.waiting:
            self._turns = deque(turn for turn in self._turns if turn[0] is not flow)
            self._backlogged -= 1
            flow.take(flow.waiting)

    def due(self) -> float | None:
        """When there is something to do next, if ever: a packet to begin or to deliver."""
        begin = self._free_s if self._turns else math.inf
        at = min(begin, self._arrivals[0].at_s) if self._arrivals else begin
        return None if math.isinf(at) else at

    def arrived(self, now: float) -> list[tuple[Flow[K], bytes | None]]:
        """What has arrived by ``now`` at the other end, in order; None behind the end of a stream."""
        self._serve(now)
        found = []
        while self._arrivals and self._arrivals[0].at_s <= now:
            arrival = heapq.heappop(self._arrivals)
            found.append((arrival.flow, arrival.data))
        return found

    def _serve(self, now: float) -> None:
        """Begin all packets whose turn comes up to ``now``."""
        while self._turns and self._free_s <= now:
            self._send()

    def _send(self) -> None:
        """Begin the next packet, when the one before it has left."""
        flow, promised = self._turns.popleft()
        spec = self._spec
        stations = self._backlogged
        fifo = spec.sharing == "fifo"
        data = flow.take(min(spec.segment, promised) if fifo else spec.segment)
        if not flow.waiting:
            self._backlogged -= 1
        if fifo and promised > len(data):
            self._turns.appendleft((flow, promised - len(data)))
        elif not fifo and flow.waiting:
            self._turns.append((flow, 0))
        self._time(flow, data, stations)
        if flow.closing and not flow.waiting:
            self._close(flow, self._free_s)

    def _time(self, flow: Flow[K], data: bytes, stations: int) -> None:
        direction, spec = self._direction, self._spec
        wire_bytes = len(data) + spec.header
        times = self._trials(1 - direction.loss)
        slots = times
        if spec.sharing == "slotted":
            slots = sum(self._trials(slotted_efficiency(stations)) for _ in range(times))
        start = self._free_s
        if direction.trace is None:
            self._free_s = direction.finish(start, 8 * wire_bytes * slots)
        else:
            self._free_s = self._began_s + direction.finish(start - self._began_s, 8 * wire_bytes * slots)
        for carried in (self.carried, flow.carried):
            carried.add(len(data), wire_bytes, times, self._free_s - start)
        self._schedule(flow, data, self._free_s)

    def _trials(self, success: float) -> int:
        """Independent trials up to the first success: geometric, at least 1."""
        if success >= 1:
            return 1
        return 1 + int(math.log(1 - self._random.random()) / math.log1p(-success))

    def _close(self, flow: Flow[K], left_s: float) -> None:
        flow.closing = False
        self._schedule(flow, None, left_s)

    def _schedule(self, flow: Flow[K], data: bytes | None, left_s: float) -> None:
        direction = self._direction
        delay = direction.delay_s
        if direction.jitter_s:
            delay += direction.jitter_s * self._random.uniform(-1, 1)
        # A connection's bytes stay in order, as TCP hands them on.
        flow.latest_s = max(flow.latest_s, left_s + delay)
        self._number += 1
        heapq.heappush(self._arrivals, _Arrival(flow.latest_s, self._number, flow, data))
