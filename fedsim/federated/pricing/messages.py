"""From the ledger of a method to its exchanges: the messages that go to clients, and what these reply.

A round is one exchange, or three where replies are masked: the keys, the training, the secrets. Asking who
has which partition, and evaluations, are no part of a round: they belong to the experiment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.meter import Event

__all__ = ["MESSAGE_OVERHEAD", "Exchange", "RoundMessages", "messages_of"]

Ints = NDArray[np.int64]

#: Bytes of a stream around a message: gRPC's prefix (5) and the header of an HTTP/2 frame (9).
MESSAGE_OVERHEAD: Final = 14

_TRAINING, _MASKING = "training", "masking"
_DOWN = {"setup": _TRAINING, "down": _TRAINING, "masking-down": _MASKING}
_UP = {"up": _TRAINING, "masking-up": _MASKING}


@dataclass(frozen=True, eq=False)
class Exchange:
    """Messages to some clients, and their replies. Arrays [clients].

    Args:
        clients: partitions, ascending.
        down_bytes: of the stream, for each.
        up_bytes: the same; 0 where nothing was replied.
        training: between the two the clients train; else they only reply.
    """

    clients: Ints
    down_bytes: Ints
    up_bytes: Ints
    training: bool


@dataclass(frozen=True)
class RoundMessages:
    """One round.

    Args:
        number: from 1.
        exchanges: in their order; none where nobody was asked.
        host_s: seconds that all clients' steps took on this machine, added up; None where nobody measured.
        merge_s: seconds that the server's work took here; 0 where nobody measured.
    """

    number: int
    exchanges: Sequence[Exchange]
    host_s: float | None
    merge_s: float


@dataclass
class _Open:
    """An exchange as far as it has been read."""

    kind: str
    down: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    up: dict[str, int] = field(default_factory=dict)

    def closed(self) -> Exchange:
        found = sorted((int(name.rpartition("-")[2]), name) for name in self.down)
        return Exchange(
            np.array([number for number, _ in found], np.int64),
            np.array([self.down[name] for _, name in found], np.int64),
            np.array([self.up.get(name, 0) for _, name in found], np.int64),
            self.kind == _TRAINING,
        )


def messages_of(
    events: Iterable[Event], rounds: Iterable[int], overhead: int = MESSAGE_OVERHEAD
) -> list[RoundMessages]:
    """The rounds of one method.

    Args:
        events: of its ledger, in the order in which they happened.
        rounds: numbers of all of its rounds.
        overhead: bytes of the stream that each message has around it.
    """
    mine: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.round is not None:
            mine[event.round].append(event)
    return [_round(number, mine[number], overhead) for number in rounds]


def _round(number: int, events: Sequence[Event], overhead: int) -> RoundMessages:
    found: list[_Open] = []
    steps: list[float] = []
    merge_s = 0.0
    for event in events:
        kind = _DOWN.get(event.stage) or _UP.get(event.stage)
        if kind is not None and (not found or found[-1].kind != kind):
            found.append(_Open(kind))
        if event.stage in _DOWN:  # what a client keeps travels in the message itself
            around = 0 if event.stage == "setup" else overhead
            found[-1].down[event.client] += around + (event.frame_bytes or 0)
        elif event.stage in _UP:
            found[-1].up[event.client] = overhead + (event.frame_bytes or 0)
        elif event.stage == "step":
            steps.append(event.duration_s)
        elif event.stage == "merge":
            merge_s += event.duration_s
    return RoundMessages(number, [one.closed() for one in found], sum(steps) if steps else None, merge_s)
