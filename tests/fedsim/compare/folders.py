"""Run folders as two engines would leave them, of what a test says."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edge.meter import STAGES, Event
from fedsim.measure.ledger import SCHEMA
from fedsim.measure.schema import Environment, Summary

ENVIRONMENT = Environment(
    python="3.11",
    platform="Linux x86_64",
    cpu=None,
    cpus=2,
    threads=1,
    torch="2.13",
    numpy="1.26",
    constriction="0.5",
    fedsim="0.1",
    git_commit=None,
    git_dirty=None,
)
SCENARIO = {
    "name": "tiny",
    "data": {"name": "digits"},
    "fleet": [{"count": 2, "link": None}],
    "engine": "virtual",
}


def sample(
    number: int,
    *,
    method: str = "png",
    ms: Mapping[str, float] | None = None,
    outcome: str = "answered",
    provenance: str = "measured",
    start_s: float | None = None,
    due_s: float | None = None,
    label: int | None = 1,
    prediction: int | None = 1,
    joules: Mapping[str, float] | None = None,
    sent: Mapping[str, Any] | None = None,
    waited: Iterable[str] = (),
) -> list[Event]:
    """The events of one sample: each stage of ``ms``, by default 1 ms of each and a total of 6 ms."""
    begun = 1e9 + number if start_s is None else start_s
    events = []
    for stage, duration in ({**dict.fromkeys(STAGES, 1.0), "total": 6.0} if ms is None else ms).items():
        rest: dict[str, Any] = {"joules": None if joules is None else joules.get(stage)}
        if stage == "send":
            payload = 100 + number
            rest |= {
                "ideal_bits": 8.0 * payload - 3,
                "payload_bytes": payload,
                "frame_bytes": payload + 10,
                **(sent or {}),
            }
        if stage == "total":
            told = None if outcome == "failed" else prediction
            rest |= {"outcome": outcome, "label": label, "prediction": told, "due_s": due_s}
        how = "modelled" if stage in waited else provenance
        events.append(
            Event("r", method, "device-0", stage, begun, duration / 1e3, how, sample=number, **rest)  # type: ignore[arg-type]
        )
    return events


def write_run(
    folder: Path,
    events: Iterable[Event] | pa.Table,
    *,
    scenario: Mapping[str, Any] = SCENARIO,
    seed: int = 7,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """The folder with its ledger and its summary."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(events, pa.Table):
        listed = list(events)
        columns = {name: [getattr(event, name) for event in listed] for name in SCHEMA.names}
        events = pa.table(columns, schema=SCHEMA)
    pq.write_table(events, folder / "ledger.parquet")
    Summary(
        scenario=dict(scenario),
        inputs=dict(inputs or {}),
        seed=seed,
        environment=ENVIRONMENT,
        duration_s=1.0,
        rows=[],
    ).write(folder / "summary.json")
    return folder


def many(
    rng: np.random.Generator, count: int, method: str, scale: float, *, provenance: str, noise: float = 0.0
) -> list[Event]:
    """Samples of a method whose latencies are drawn; ``scale`` multiplies what is sent."""
    events = []
    for number in range(count):
        ms = {
            "head": 12.0 * (1 + noise * rng.exponential()),
            "encode": 1.5 * (1 + noise * rng.exponential()),
            "send": scale * (20 + rng.gamma(3.0, 6.0)),
            "queue": rng.exponential(2.0),
            "decode": 0.4 * (1 + noise * rng.exponential()),
            "tail": 3.0 * (1 + noise * rng.exponential()),
        }
        ms["total"] = sum(ms.values())
        begun = 1e9 + 0.05 * number
        events += sample(
            number, method=method, ms=ms, provenance=provenance, start_s=begun, due_s=begun - 0.002
        )
    return events
