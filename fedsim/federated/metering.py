"""What the messages of a federated run cost: each priced at four levels, up and down, as it passes.

::

    setup          what a client is sent once and keeps, ahead of all else
    down           what it is sent for training         server -> client
    step           its work
    up             what it replies                      client -> server
    merge          the server's work
    evaluate-down, evaluate, evaluate-up                the same of an evaluation
    hello-down, hello-up                                who has which partition, once a run
    masking-down, masking-up                            keys and secrets, where replies are masked

A payload is the parts of a packet; what they are worth, the ideal bits, is counted anew of those parts that
are entropy coded, and of all others it is their size. A frame is the content of Flower's message as the
protobuf that Flower has for it. There are no wire bytes: in one process no socket is crossed, and between
several the connections are Flower's, which pass more than these messages.

A client's work is timed where it is done in this process, by what passes between its message and its reply.
Where clients train at once, the time that they take together is the first one's, so that the sum is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.serde import recorddict_to_proto

from edge.meter import Event
from edge.prototypes import BITS, StatisticsCodec, StatisticsError
from fedsim.errors import FederationError
from fedsim.federated.clients import ROUND, SETUP
from fedsim.federated.packet import Packet

__all__ = ["NOT_READ", "NO_SOCKET", "SERVER", "STAGES", "MessageSize", "Meter", "client_name", "sizes_of"]

#: Stages of a federated run, in the order in which they happen.
STAGES = (
    "hello-down",
    "hello-up",
    "masking-down",
    "masking-up",
    "setup",
    "down",
    "step",
    "up",
    "merge",
    "evaluate-down",
    "evaluate",
    "evaluate-up",
)
#: Why there are no wire bytes of clients in this process.
NO_SOCKET = "no socket is crossed: the clients run in the server's process"
#: Why there are none of clients in processes of their own.
NOT_READ = "the connections between server and clients are Flower's own, and are not read"
#: The client of events that the server has by itself.
SERVER = "server"

_CODED = ("prototypes", "statistics")  # parts that are class statistics, in every method
_LOOKED_INTO = 1 << 20  # bytes of a part: more than prototypes have; what is larger is taken as it is
_REMEMBERED = 4  # contents that went to several clients
_PREFIXES = {MessageType.TRAIN: "", MessageType.EVALUATE: "evaluate-", MessageType.QUERY: "hello-"}
_OTHER = "masking-"
_WORK = {MessageType.TRAIN: "step", MessageType.EVALUATE: "evaluate"}


def client_name(partition: int) -> str:
    """A client in the ledger: the device of this number."""
    return f"device-{partition}"


@dataclass(frozen=True)
class MessageSize:
    """A message, or a part of one, at three levels; the fourth is a socket's.

    Args:
        ideal_bits: information in the payload.
        payload_bytes: of the parts of its packet.
        frame_bytes: of the content as protobuf.
    """

    ideal_bits: float = 0.0
    payload_bytes: int = 0
    frame_bytes: int = 0

    def __sub__(self, other: MessageSize) -> MessageSize:
        return MessageSize(
            self.ideal_bits - other.ideal_bits,
            self.payload_bytes - other.payload_bytes,
            self.frame_bytes - other.frame_bytes,
        )


def sizes_of(content: RecordDict, dimension: int) -> tuple[MessageSize, MessageSize | None]:
    """What a message costs, but for what its client keeps; and what that costs, if there is any.

    Args:
        content: of a message.
        dimension: of the prototype space.
    """
    whole = _size(content, dimension)
    packets = {
        name: {key: part for key, part in record.items() if not key.startswith(SETUP)}
        for name, record in content.items()
        if isinstance(record, ConfigRecord) and any(key.startswith(SETUP) for key in record)
    }
    if not packets:
        return whole, None
    others: Mapping[str, ConfigRecord] = {name: ConfigRecord(parts) for name, parts in packets.items()}
    rest = _size(RecordDict({**content, **others}), dimension)
    return rest, whole - rest


def _size(content: RecordDict, dimension: int) -> MessageSize:
    bits, payload = 0.0, 0
    with suppress(FederationError):  # without a packet there is no payload; who owes one is refused for it
        parts = Packet.of(content).parts
        payload = sum(map(len, parts.values()))
        bits = sum(_ideal_bits(name.removeprefix(SETUP), part, dimension) for name, part in parts.items())
    return MessageSize(bits, payload, recorddict_to_proto(content).ByteSize())


def _ideal_bits(name: str, part: bytes, dimension: int) -> float:
    """Information in a part of a packet."""
    coded = 1 < len(part) <= _LOOKED_INTO and part[1] in BITS and part[1] <= 16
    if name in _CODED and coded:
        try:
            return StatisticsCodec(dimension, part[1]).ideal_bits(part)
        except StatisticsError:
            pass  # whoever sent it is told so by the method
    return 8.0 * len(part)


class Meter:
    """Prices the messages of one method's run, as the passages of an :class:`InlineGrid`.

    Args:
        run: name of the run.
        method: row of the results.
        dimension: of the prototype space.
        hello: price the question for a client's partition, which is asked once a run.
        here: clients work in this process, so that their work is timed.
        lost: partitions of which nothing is heard in a round, by its number: what they reply is not priced.
    """

    def __init__(
        self,
        run: str,
        method: str,
        dimension: int,
        *,
        hello: bool = True,
        here: bool = True,
        lost: Callable[[int], Collection[int]] = lambda number: (),
    ) -> None:
        self._run = run
        self._method = method
        self._dimension = dimension
        self._hello = hello
        self._here = here
        self._lost = lost
        self._events: list[Event] = []
        self._begun: dict[int, tuple[float, float, str, int]] = {}
        self._last = 0.0
        self._sizes: dict[int, tuple[RecordDict, MessageSize, MessageSize | None]] = {}

    def sent(self, partition: int, message: Message) -> Message:
        """A message on its way to a client."""
        kind, content = message.metadata.message_type, message.content
        number = _round(content)
        if kind != MessageType.QUERY or self._hello:
            rest, setup = self._sizes_of(content)
            if setup is not None:
                self._bytes("setup", partition, number, setup)
            self._bytes(f"{_PREFIXES.get(kind, _OTHER)}down", partition, number, rest)
        self._begun[partition] = (time.time(), time.perf_counter(), kind, number)
        return message

    def received(self, partition: int, message: Message) -> Message:
        """A client's reply on its way back."""
        if (passing := self._begun.pop(partition, None)) is None:
            return message  # a second reply, which the server refuses
        start, begun, kind, number = passing
        now = time.perf_counter()
        duration, self._last = now - max(begun, self._last), now
        if self._here and (work := _WORK.get(kind)) is not None:
            self._worked(client_name(partition), work, number, start, duration)
        if kind == MessageType.QUERY and not self._hello:
            return message
        if kind == MessageType.TRAIN and partition in self._lost(number):
            return message
        stage = f"{_PREFIXES.get(kind, _OTHER)}up"
        if message.has_error():
            self._bytes(stage, partition, number, MessageSize(), failed=message.error.reason or "an error")
        else:
            self._bytes(stage, partition, number, sizes_of(message.content, self._dimension)[0])
        return message

    def merged(self, number: int, start_s: float, duration_s: float) -> None:
        """The server's work in a round."""
        self._worked(SERVER, "merge", number, start_s, duration_s)

    def take(self) -> list[Event]:
        """The events since this was last asked."""
        events, self._events = self._events, []
        return events

    def _sizes_of(self, content: RecordDict) -> tuple[MessageSize, MessageSize | None]:
        """What a message costs; one that goes to all is looked at once."""
        if (found := self._sizes.get(id(content))) is None:
            while len(self._sizes) >= _REMEMBERED:
                del self._sizes[next(iter(self._sizes))]
            found = self._sizes[id(content)] = (content, *sizes_of(content, self._dimension))
        return found[1], found[2]

    def _bytes(
        self, stage: str, partition: int, number: int, size: MessageSize, failed: str | None = None
    ) -> None:
        self._events.append(
            Event(
                self._run,
                self._method,
                client_name(partition),
                stage,
                time.time(),
                0.0,
                "measured",
                round=number,
                ideal_bits=size.ideal_bits,
                payload_bytes=size.payload_bytes,
                frame_bytes=None if failed else size.frame_bytes,
                outcome="failed" if failed else None,
                detail=failed or (NO_SOCKET if self._here else NOT_READ),
            )
        )

    def _worked(self, client: str, stage: str, number: int, start_s: float, duration_s: float) -> None:
        event = Event(self._run, self._method, client, stage, start_s, duration_s, "measured", round=number)
        self._events.append(event)


def _round(content: RecordDict) -> int:
    """The number of a message's round; 0 of one that belongs to none."""
    number = content[ROUND]["number"] if ROUND in content else 0
    assert isinstance(number, int)
    return number
