"""The schema of ``summary.json``, version 1.

``docs/summary.md`` says in words what every key means; ``docs/summary.schema.json`` is generated from
this module.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError

from edge.energy import What
from edge.meter import Provenance
from fedsim.errors import FedsimError
from fedsim.measure.federation.schema import Federation
from fedsim.measure.files import replacing
from fedsim.measure.parts import Amount, Count, Fraction, Part

__all__ = [
    "SCHEMA_VERSION",
    "ByteProvenance",
    "Distribution",
    "Energy",
    "Environment",
    "Latency",
    "MeterReading",
    "Outcomes",
    "Percentiles",
    "Row",
    "RowProvenance",
    "Summary",
    "SummaryError",
    "Task",
    "json_schema",
]

SCHEMA_VERSION = 1


class SummaryError(FedsimError, ValueError):
    """A file that is not a summary of this version. The message names the file and the key."""


class Distribution(Part):
    """Bytes of one sample, over the samples that the server answered."""

    mean: Amount
    p50: Amount
    p95: Amount
    max: Amount


class Latency(Part):
    """Milliseconds of one stage, over the samples that were answered, by the server or locally."""

    p50: Amount
    p95: Amount


class Percentiles(Part):
    """Joules of one sample by itself, over the samples that were answered, by the server or locally."""

    p50: Amount
    p95: Amount


class Energy(Part):
    """Joules of the devices for each sample that was answered, by the server or locally.

    What failed samples cost is in them. A cause is null where it did not arise, or was not known of every
    event; a sum is null where one of its parts was not known.
    """

    head_j: Amount | None = Field(default=None, description="The network up to the cut.")
    encode_j: Amount | None = Field(default=None, description="The encoder and the entropy coder.")
    send_j: Amount | None = Field(default=None, description="The radio while samples and replies cross.")
    promotion_j: Amount | None = Field(default=None, description="Waking the radio.")
    tail_j: Amount | None = Field(default=None, description="The radio's tails: awake behind a transfer.")
    idle_j: Amount | None = Field(default=None, description="The sleeping radio, over the whole run.")
    base_j: Amount | None = Field(
        default=None, description="The device that does nothing, over the whole run."
    )
    incremental_j: Amount | None = Field(
        description="What the samples cost above a device at rest: head, encode, send, promotion and tail."
    )
    total_j: Amount | None = Field(description="All that the devices used: idle and base as well.")
    per_correct_j: Amount | None = Field(
        description="The incremental joules of the run over the samples predicted correctly; null without "
        "labels, and where none was."
    )
    sample_j: Percentiles | None = Field(description="What a sample's own stages cost; null where unknown.")
    provenance: Provenance


class MeterReading(Part):
    """What a meter of the machine said while the method ran: of devices, server and all else there together.

    The machine's power at rest is in it.
    """

    meter: str = Field(description="Its name; none where the machine has no meter.")
    what: What | None = Field(
        description="What it measures, such as a processor or a whole board; null where there is no meter."
    )
    sample_j: Amount | None = Field(
        description="Its joules over the samples that were answered, by the server or locally."
    )
    watts: Amount | None = Field(description="Its joules over the seconds.")
    seconds: Amount = Field(
        description="From when the devices began the method until its last sample had ended."
    )
    provenance: Provenance
    detail: str | None = Field(
        description="Where it was read; or why it is unavailable, and what would help."
    )


class Outcomes(Part):
    """How many samples were answered by the server, answered on the device, or failed."""

    answered: Count
    local: Count
    failed: Count


class ByteProvenance(Part):
    """How each byte count was obtained; null where the method sends nothing.

    ``stream`` is that of ``stream_wire_bytes_mean``.
    """

    ideal: Provenance | None
    payload: Provenance | None
    frame: Provenance | None
    wire: Provenance | None
    stream: Provenance | None


class RowProvenance(Part):
    """How the figures of a row were obtained."""

    bytes: ByteProvenance
    latency: Provenance


class Task(Part):
    """A further task, by a tail of its own behind the same payloads."""

    metric: str = Field(description="accuracy, or r2: the coefficient of determination of a regression.")
    value: float
    interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval of the value; null where none is known."
    )


class Row(Part):
    """One way of running the task."""

    method: str = Field(description="Name of the method, unique in the run.")
    bottleneck: str | None = Field(
        description="Name of the bottleneck; null where the whole network runs on the device."
    )
    learned: bool = Field(description="Whether the bottleneck was trained and codes with a learned prior.")
    rate: float | None = Field(
        description="Rate parameter of the method (beta, quality, bits), if it has one."
    )
    level: Count | None = Field(
        default=None, description="Rate level of a bottleneck that has several; null elsewhere."
    )
    samples: Annotated[int, Field(ge=1)]
    outcomes: Outcomes
    accuracy: Fraction | None = Field(
        description="Share of the samples predicted correctly; a failed sample counts as wrong. "
        "Null without labels."
    )
    accuracy_interval: tuple[Fraction, Fraction] | None = Field(
        description="Wilson 95 % interval of the accuracy."
    )
    ideal_bytes: Distribution | None = Field(
        description="Information under the coder's own tables, bits / 8."
    )
    payload_bytes: Distribution | None = Field(description="What the coder put out.")
    constant_bytes: Count = Field(
        default=0,
        description="Bytes of every payload that say nothing of its sample: the header of a file format.",
    )
    frame_bytes: Distribution | None = Field(
        description="The message that carries the payload; retries add up."
    )
    wire_bytes: Distribution | None = Field(
        description="What crossed the socket, device to server, TCP/IP included. Null where several "
        "samples were in flight at once, so that their bytes cannot be told apart."
    )
    reply_wire_bytes: Distribution | None = Field(description="What crossed the socket, server to device.")
    stream_wire_bytes_mean: Amount | None = Field(
        description="All bytes of the method's streams, device to server, over the samples answered."
    )
    stream_overhead_bytes: Amount | None = Field(
        description="Mean bytes of a stream, device to server, of no sample: connection and handshake."
    )
    stream_overhead_detail: str | None = Field(
        description="Why stream_overhead_bytes is null, where the method sends something."
    )
    sc2_kilobytes: Amount | None = Field(
        description="Mean size as the SC2 literature prints it (pickled, KiB); learned bottlenecks only."
    )
    latency_ms: dict[str, Latency] = Field(description="By stage, in the order in which the stages happen.")
    response_ms: Latency | None = Field(
        default=None,
        description="From when a schedule had a sample due until it ended, so with its wait in front of the "
        "device. Null without a schedule.",
    )
    answered_per_s: Amount | None = Field(
        default=None,
        description="Samples answered, by the server or locally, over the seconds from the beginning of the "
        "first sample to the end of the last; null in files of earlier versions.",
    )
    energy: Energy | None = Field(default=None, description="Of the devices; null where no joules are known.")
    devices_empty: Count | None = Field(
        default=None, description="Devices whose battery ran empty; null where no energy is known."
    )
    machine: list[MeterReading] = Field(
        default=[],
        description="What the meters of the machine said, of devices and server together; empty where none "
        "was asked.",
    )
    head_macs: Count = Field(
        description="Multiply-accumulates on the device for one sample, encoder included."
    )
    head_parameters: Count
    head_bytes: Count = Field(
        default=0,
        description="What a device has to be given of the model: size of its weights file, with codebooks, "
        "integer weights and frequency tables, which are no parameters.",
    )
    tail_macs: Count = Field(
        description="Multiply-accumulates on the server for one sample, decoder included."
    )
    tail_parameters: Count
    erasure: Fraction | None = Field(
        default=None,
        description="Probability that a packet is lost on its way, mean over the devices; null without "
        "losses, and where nothing is sent.",
    )
    tasks: dict[str, Task] = Field(default={}, description="Further tasks by name.")
    remarks: list[str] = Field(default=[], description="What is to be known of the model, in sentences.")
    provenance: RowProvenance


class Environment(Part):
    """The machine and the software of the run."""

    python: str
    platform: str
    cpu: str | None = Field(description="Model name of the processor; null where the system does not tell.")
    cpus: Annotated[int, Field(ge=1)] = Field(description="Logical processors that the run could use.")
    threads: Annotated[int, Field(ge=1)] = Field(description="Torch threads of the process that trains.")
    torch: str
    numpy: str
    constriction: str
    fedsim: str
    git_commit: str | None = Field(
        description="Commit of fedsim's checkout; null if it does not run from one."
    )
    git_dirty: bool | None = Field(description="Whether that checkout's packages differed from the commit.")


class Summary(Part):
    """The figures of a run and how they were obtained."""

    version: Literal[1] = Field(default=1, alias="schema", description="Version of this schema.")
    scenario: dict[str, JsonValue] = Field(description="The resolved scenario.")
    inputs: dict[str, str] = Field(
        default={},
        description="SHA-256 of what decided the result and does not stand in the scenario: data, files of "
        "weights, the code of others; empty where it was not recorded.",
    )
    seed: int
    environment: Environment
    duration_s: Amount = Field(description="Wall time of the run, training included.")
    rows: list[Row] = Field(description="Of the split networks; empty where there is none.")
    federation: Federation | None = Field(
        default=None, description="Of the federation; null where there is none."
    )
    remarks: list[str] = Field(
        default=[],
        description="What is to be known of the run, in sentences: what went wrong and was mended, what was "
        "predicted from what, and which numbers of devices and links nobody has verified.",
    )

    def to_json(self) -> str:
        """The text of ``summary.json``."""
        document = self.model_dump(mode="json", by_alias=True)
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        """Write the summary, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The summary in a file.

        Raises:
            SummaryError: no such file, no JSON, another schema version, or a key that does not fit.
        """
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SummaryError(f"{path}: cannot be read as JSON: {error}") from error
        version = document.get("schema") if isinstance(document, dict) else None
        if version != SCHEMA_VERSION:
            raise SummaryError(f"{path}: schema is {version!r}, expected {SCHEMA_VERSION}")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise SummaryError(f"{path}: {key} is {first['input']!r}: {first['msg']}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``summary.json``."""
    schema = Summary.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
