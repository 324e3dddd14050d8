"""The event record that every engine, simulated or real, emits: a line of the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

__all__ = ["STAGES", "Event", "Outcome", "Provenance"]

Provenance = Literal["measured", "modelled", "unavailable"]
Outcome = Literal["answered", "local", "failed"]

#: Stages of one sample, in the order in which they happen; ``total`` spans them all.
STAGES = ("head", "encode", "send", "queue", "decode", "tail", "total")


@dataclass(frozen=True, slots=True)
class Event:
    """One stage of one sample (or of one federated round) on one client: a line of the ledger.

    ``send`` carries the bytes of the device-to-server direction at four levels: what the payload holds
    (``ideal_bits``, ``payload_bytes``) once, what it cost to bring it over (``frame_bytes``,
    ``wire_bytes``) summed over all attempts. ``total`` carries the outcome. A field that does not
    apply, or is not known, is None.

    A stage that was waited out to what it takes on a modelled device is ``modelled``, though a clock was
    read; ``total`` is what the clock said from the sample's beginning to its end, and ``measured``.
    """

    run: str
    method: str  #: the row of the results table that it belongs to
    client: str
    stage: str
    start_s: float  #: Unix time
    duration_s: float
    provenance: Provenance
    rate: float | None = None  #: rate parameter of the method (beta, quality, bits), where it has one
    sample: int | None = None
    round: int | None = None
    ideal_bits: float | None = None
    payload_bytes: int | None = None
    frame_bytes: int | None = None
    wire_bytes: int | None = None
    reply_wire_bytes: int | None = None  #: the server-to-device direction, as ``wire_bytes``
    joules: float | None = None
    outcome: Outcome | None = None
    label: int | None = None
    prediction: int | None = None
    #: Unix time at which a schedule had the sample due, of ``total``; ``start_s`` is when it was begun.
    due_s: float | None = None
    #: Why a sample failed or was answered locally, why a stream ended, what else was odd.
    detail: str | None = None

    def to_json(self) -> str:
        """One line of JSON without the fields that are None."""
        return json.dumps({k: v for k, v in asdict(self).items() if v is not None})

    @classmethod
    def from_json(cls, line: str) -> Event:
        """The event of one line of JSON.

        Raises:
            ValueError: no JSON, or fields that an event does not have.
        """
        record: dict[str, Any] = json.loads(line)
        unknown = set(record) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"event with unknown fields {sorted(unknown)}")
        return cls(**record)
