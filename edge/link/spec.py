"""What a link is: rate, delay, jitter, loss and queue of each direction, and how its users share it.

One description serves the virtual clock and the wall-clock relay, so that both charge the same.
What is shaped is packets: n bytes of a stream travel in segments of at most ``segment`` bytes, and
each costs ``header`` bytes more (the defaults: 1,448 and 66, which is TCP with timestamps over
IPv4 over Ethernet). What goes back to acknowledge them is not charged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from edge.link.errors import LinkError
from edge.link.trace import Trace

__all__ = ["Direction", "LinkSpec", "Sharing", "slotted_efficiency"]

#: How connections share a link. ``alone``: each has one of its own. ``processor``: a packet of each
#: in turn, which is processor sharing to the packet's grain. ``fifo``: in the order of arrival.
#: ``slotted``: as ``processor``, but stations contend for each packet's slot and collide.
Sharing = Literal["alone", "processor", "fifo", "slotted"]

_QUEUE = 256 * 1024


def slotted_efficiency(stations: int) -> float:
    """The share of slots that carry a packet when ``stations`` contend, each with probability 1/stations.

    ``(1 - 1/n)^(n - 1)``: 1 for one, 1/2 for two, towards 1/e: slotted ALOHA at its best throughput
    with the backlog known (Bertsekas and Gallager, Data Networks, 2nd ed., section 4.2).

    Raises:
        ValueError: no station.
    """
    if stations < 1:
        raise ValueError(f"{stations} stations; at least 1")
    return float((1 - 1 / stations) ** (stations - 1)) if stations > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of a link.

    Loss is that of a link layer with automatic repeat request: a packet that is lost is sent again
    at once and costs its time once more, so that it takes ``1 / (1 - loss)`` transmissions in the
    mean, and nothing is lost above. That is how LTE, Wi-Fi and BLE treat it.

    Raises:
        LinkError: a number that is out of its range, or both a rate and a trace.
    """

    rate_bps: float | None = None  #: bit/s, above 0; None for no limit
    delay_s: float = 0.0  #: one-way, behind the queue
    jitter_s: float = 0.0  #: a packet's delay is uniform within ``delay_s`` +- this; at most ``delay_s``
    loss: float = 0.0  #: probability that a transmission fails, below 1
    #: Bytes of one connection that may wait; beyond, its sender has to. None: see ``queue_limit``.
    queue_bytes: int | None = None
    trace: Trace | None = None  #: the rate over time, in place of ``rate_bps``

    def __post_init__(self) -> None:
        if self.rate_bps is not None:
            _number("rate_bps", self.rate_bps, 0, math.inf, "above 0, or none for no limit", open_low=True)
            if self.trace is not None:
                raise LinkError("rate_bps and trace are both given; one of them, or neither for no limit")
        _number("delay_s", self.delay_s, 0, math.inf, "at least 0")
        _number("jitter_s", self.jitter_s, 0, math.inf, "at least 0")
        if self.jitter_s > self.delay_s:
            raise LinkError(f"jitter_s is {self.jitter_s:g}; at most delay_s, which is {self.delay_s:g}")
        _number("loss", self.loss, 0, 1, "at least 0 and below 1")
        if self.queue_bytes is not None:
            _whole("queue_bytes", self.queue_bytes, 1)
        if self.trace is not None and not isinstance(self.trace, Trace):
            raise LinkError(f"trace is {self.trace!r}; a trace, or none")

    @property
    def mean_bps(self) -> float:
        """The rate, or that of the trace in the mean; infinite without a limit."""
        if self.trace is not None:
            return self.trace.mean_bits_per_s
        return math.inf if self.rate_bps is None else self.rate_bps

    @property
    def queue_limit(self) -> int:
        """``queue_bytes``, or else 256 KiB or the bytes of one delay at the mean rate, if that is more."""
        if self.queue_bytes is not None:
            return self.queue_bytes
        under_way = 0.0 if math.isinf(self.mean_bps) else self.mean_bps * self.delay_s / 8
        return max(_QUEUE, math.ceil(under_way))

    def finish(self, start_s: float, bits: float) -> float:
        """When ``bits`` have left that begin at ``start_s``, with the direction to themselves.

        ``start_s`` counts from the beginning of the trace, where there is one.
        """
        if self.trace is not None:
            return self.trace.finish(start_s, bits)
        return start_s if self.rate_bps is None else start_s + bits / self.rate_bps


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """Both directions of a link, how connections share it, and what its packets cost.

    Raises:
        LinkError: a sharing that is not known, or a size that is out of its range.
    """

    up: Direction = field(default_factory=Direction)  #: from the device to the server
    down: Direction = field(default_factory=Direction)
    sharing: Sharing = "processor"
    segment: int = 1448  #: bytes of a stream that one packet carries at most
    header: int = 66  #: bytes of a packet beyond those

    def __post_init__(self) -> None:
        for name, direction in (("up", self.up), ("down", self.down)):
            if not isinstance(direction, Direction):
                raise LinkError(f"{name} is {direction!r}; a direction")
        if self.sharing not in get_args(Sharing):
            raise LinkError(f"sharing is {self.sharing!r}; one of {', '.join(get_args(Sharing))}")
        _whole("segment", self.segment, 1)
        _whole("header", self.header, 0)

    def packets(self, stream_bytes: int) -> int:
        """Packets that carry so many bytes, sent at once."""
        return -(-stream_bytes // self.segment)

    def wire_bytes(self, stream_bytes: int) -> int:
        """What so many bytes, sent at once, cost on the link, if nothing is lost."""
        return stream_bytes + self.packets(stream_bytes) * self.header

    def to_json(self) -> str:
        """One line of JSON, which :meth:`from_json` reads."""
        return json.dumps(
            {
                "up": _direction_record(self.up),
                "down": _direction_record(self.down),
                "sharing": self.sharing,
                "segment": self.segment,
                "header": self.header,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> LinkSpec:
        """The link that ``text`` describes; what is left out has its default.

        Raises:
            LinkError: no JSON object, a key that does not exist, or a value that cannot be.
        """
        try:
            record = json.loads(text)
        except ValueError as error:
            raise LinkError(f"a link is described by a JSON object: {error}") from error
        record = dict(_keys("a link", record, cls.__slots__))
        for name in ("up", "down"):
            if name in record:
                record[name] = _direction(name, record[name])
        return cls(**record)


def _direction_record(direction: Direction) -> dict[str, Any]:
    record = {name: getattr(direction, name) for name in Direction.__slots__}
    if direction.trace is not None:
        record["trace"] = {name: getattr(direction.trace, name) for name in _TRACE}
    return {name: value for name, value in record.items() if value is not None}


_TRACE = ("times_s", "bits_per_s", "repeat", "duration_s")


def _direction(name: str, record: Any) -> Direction:
    record = dict(_keys(name, record, Direction.__slots__))
    try:
        if record.get("trace") is not None:
            given = _keys("trace", record["trace"], _TRACE)
            if not {"times_s", "bits_per_s"} <= set(given):
                raise LinkError("trace has no times_s or no bits_per_s; both")
            record["trace"] = Trace(**given)
        return Direction(**record)
    except (TypeError, ValueError) as error:
        raise LinkError(f"{name}: {error}") from error


def _keys(what: str, record: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(record, dict):
        raise LinkError(f"{what} is {json.dumps(record)[:60]}; an object with {', '.join(known)}")
    for key in record:
        if key not in known:
            raise LinkError(f"{what} has no {key!r}; it has {', '.join(known)}")
    return record


def _number(
    name: str, value: object, low: float, high: float, allowed: str, *, open_low: bool = False
) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high
    if not fits or (open_low and value == low):
        raise LinkError(f"{name} is {value!r}; a number {allowed}")


def _whole(name: str, value: object, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise LinkError(f"{name} is {value!r}; a whole number of at least {low}")
