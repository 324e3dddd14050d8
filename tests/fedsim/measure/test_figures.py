"""All figures of a row, against the same ones worked out event by event."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.meter import STAGES, Event
from fedsim.measure.ledger import to_table
from fedsim.measure.summary import summarise

from .plain import figures
from .runs import LEARNED, sample


def ledger_of(seed: int, samples: int) -> list[Event]:
    """A ledger of any shape: outcomes, gaps in what is known, streams, schedules, energy, batteries."""
    chance = random.Random(seed)
    clients = ["a", "b", "c"][: chance.randint(1, 3)]
    known = {what: chance.choice([0.0, 0.9, 1.0]) for what in ("wire", "label", "due", "sent", "joules")}
    metered = chance.random() < 0.7
    events: list[Event] = []
    for number in range(samples):
        outcome = chance.choice(["answered", "answered", "answered", "local", "failed"])
        payload = chance.randint(2, 900) if outcome == "answered" or chance.random() < 0.5 else None
        mine = sample(
            "f",
            number * 3,
            outcome=outcome,
            label=chance.randint(0, 2) if chance.random() < known["label"] else None,
            prediction=chance.randint(0, 2) if outcome != "failed" or chance.random() < 0.2 else None,
            payload=payload,
            wire=chance.randint(40, 999) if chance.random() < known["wire"] else None,
            ms=chance.expovariate(1.0),
            rate=0.3,
            client=chance.choice(clients),
            provenance=chance.choice(["measured", "measured", "modelled"]),
            stages=chance.random() < 0.8,
        )
        due = mine[0].start_s - chance.random() if chance.random() < known["due"] else None
        events += [replace(event, due_s=due) if event.stage == "total" else event for event in mine]
    if metered:
        energetic = {"head", "encode", "send", "total"}
        certain = chance.choice([1.0, 1.0, 0.95])
        events = [
            replace(event, joules=chance.random())
            if event.stage in energetic and chance.random() < certain
            else event
            for event in events
        ]
        for stage in ("base", "promotion", "radio-tail", "radio-idle"):
            for client in clients:
                if chance.random() < 0.97:
                    spent = {"joules": chance.random(), "rate": 0.3}
                    events.append(Event("r", "f", client, stage, 0.0, 9.0, "modelled", **spent))
    for meter, stage in (("package-0", "machine-package"), ("gpu-0", "machine-gpu")):
        if chance.random() < 0.5:
            spent = {"rate": 0.3, "joules": 99 * chance.random() if chance.random() < 0.8 else None}
            how = "unavailable" if spent["joules"] is None else "measured"
            events.append(Event("r", "f", meter, stage, 0.0, chance.choice([0.0, 7.0]), how, **spent))
    for client in clients:
        if chance.random() < 0.3:
            events.append(Event("r", "f", client, "battery-empty", 5.0, 0.0, "modelled", rate=0.3))
        if chance.random() < 0.8:
            wire = chance.randint(0, 99_999) if chance.random() < 0.9 else None
            events.append(Event("r", "f", client, "stream", 0.0, 1.0, "measured", 0.3, wire_bytes=wire))
    chance.shuffle(events)
    return events


def near(found: Any, expected: Any, where: str = "") -> None:
    """The same keys and, but for rounding, the same numbers."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        assert list(found) == list(expected), where
        for key, value in expected.items():
            near(found[key], value, f"{where}.{key}")
    elif isinstance(expected, float):
        # Times are Unix times of about 1e9 s, which doubles resolve to 1.2e-7 s, 0.12 us.
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-3 if "response" in where else 1e-12), where
    else:
        assert found == expected, where


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_figures_are_those_of_every_single_event(seed: int, samples: int) -> None:
    events = ledger_of(seed, samples)
    (row,) = summarise(to_table(events), {}, 0, {"f": LEARNED}, ["f"], 1.0).rows
    found = {**row.model_dump(), "latency_provenance": row.provenance.latency}
    expected = figures(events)
    near({key: found[key] for key in expected}, expected)


def test_the_ledgers_above_show_everything() -> None:
    """What the property is about does come up, and so does its absence."""
    rows = [figures(ledger_of(seed, 30)) for seed in range(150)]
    for key in ("accuracy", "wire_bytes", "response_ms", "stream_overhead_bytes", "energy", "devices_empty"):
        assert 10 < sum(row[key] is None for row in rows) < 145, key
    spent = [row["energy"] for row in rows if row["energy"] is not None]
    for key in ("head_j", "base_j", "incremental_j", "total_j", "per_correct_j", "sample_j"):
        assert 3 < sum(one[key] is None for one in spent) < len(spent) - 10, key
    said = [one for row in rows for one in row["machine"]]
    for key in ("sample_j", "watts"):
        assert 3 < sum(one[key] is None for one in said) < len(said) - 10, key
    assert all(set(row["latency_ms"]) == set(STAGES) for row in rows)
