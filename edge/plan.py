"""How a device runs its samples, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc

from edge.schedule import Schedule
from edge.sending import Erasure

__all__ = ["Plan", "Tally"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How samples are run, whichever the model.

    Args:
        run: name of the run, for the events.
        client: name of this device, for the events and the server's log.
        server: HOST:PORT; not needed for a model that runs on the device as a whole.
        in_flight: samples in progress at once.
        deadline_s: time that a sample has on its way to the server and back.
        interval_s: samples are scheduled this far apart; 0 begins one as soon as another is final. The
            clock of a sample that has to wait for its turn starts when it was scheduled, so that its
            ``total`` has the wait in it, which is no stage.
        schedule: when each sample is due, in place of ``interval_s``. A sample is begun when it is due and
            has a place in flight, never earlier; its clock starts then, and ``total`` says when it was due.
        warmup: times that the first sample is run, unrecorded, before the stream is opened.
        credentials: for TLS; plain TCP without.
        erasure: packets that are lost on the way to the server. Events carry what a payload held before
            (``ideal_bits``, ``payload_bytes``), and what crossed the socket after (``frame_bytes``,
            ``wire_bytes``); of a sample that lost every packet nothing crossed, and no bytes are noted.
    """

    run: str
    client: str
    server: str | None = None
    in_flight: int = 1
    deadline_s: float = 10.0
    interval_s: float = 0.0
    schedule: Schedule | None = None
    warmup: int = 3
    credentials: grpc.ChannelCredentials | None = None
    erasure: Erasure = field(default_factory=Erasure)


@dataclass(slots=True)
class Tally:
    """How it went.

    Attributes:
        failed: samples that failed.
        slower: samples for which this host took longer than the device that it stands for.
        refused: why the server refused the device, if it did.
    """

    failed: int = 0
    slower: int = 0
    refused: str | None = None
