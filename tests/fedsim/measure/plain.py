"""The figures of a row once more, event by event in plain Python: slow, and easy to believe."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from edge.meter import STAGES, Event
from fedsim.measure.sc2 import sc2_kilobytes
from fedsim.measure.statistics import wilson_interval

CAUSES = {
    "head_j": "head",
    "encode_j": "encode",
    "send_j": "send",
    "promotion_j": "promotion",
    "tail_j": "radio-tail",
    "idle_j": "radio-idle",
    "base_j": "base",
}


def percentile(values: Sequence[float], p: float) -> float:
    """Linear between the two nearest values."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * p / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def all_known(values: Sequence[Any]) -> bool:
    return bool(values) and None not in values


def distribution(values: Sequence[float | None]) -> dict[str, float] | None:
    if not all_known(values):
        return None
    numbers = [value for value in values if value is not None]
    p50, p95 = (percentile(numbers, p) for p in (50, 95))
    return {"mean": statistics.fmean(numbers), "p50": p50, "p95": p95, "max": max(numbers)}


def spread(values: Sequence[float], factor: float = 1.0) -> dict[str, float]:
    return {"p50": factor * percentile(values, 50), "p95": factor * percentile(values, 95)}


def weakest(events: Sequence[Event]) -> str:
    words = {event.provenance for event in events}
    return next((word for word in ("unavailable", "modelled", "measured") if word in words), "unavailable")


def energy(events: Sequence[Event], well: set[int], correct: int | None) -> dict[str, Any] | None:
    own = [event for event in events if event.stage == "total" and event.sample in well]
    metered = [event for event in events if event.joules is not None and event.stage in CAUSES.values()]
    if not (metered or any(event.joules is not None for event in own)) or not well:
        return None
    devices = {event.client for event in events if event.stage == "total"}
    found: dict[str, Any] = {}
    parts: dict[str, list[float | None]] = {"work": [], "all": []}
    used = [event for event in events if event.stage == "total"] if all_known([e.joules for e in own]) else []
    for key, stage in CAUSES.items():
        mine = [event for event in events if event.stage == stage]
        joules = [event.joules for event in mine]
        missing = stage not in STAGES and devices - {event.client for event in mine}
        total = math.fsum(joules) if all_known(joules) and not missing else None
        found[key] = None if total is None else total / len(well)
        used += [] if total is None else mine
        if mine:
            parts["all"].append(total)
            if stage not in ("base", "radio-idle"):
                parts["work"].append(total)
    work, everything = (math.fsum(part) if all_known(part) else None for part in parts.values())
    each = [event.joules for event in own]
    return {
        **found,
        "incremental_j": None if work is None else work / len(well),
        "total_j": None if everything is None else everything / len(well),
        "per_correct_j": None if work is None or not correct else work / correct,
        "sample_j": spread(each) if all_known(each) else None,
        "provenance": weakest(used),
    }


def machine(events: Sequence[Event], well: set[int]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        if event.stage.startswith("machine"):
            known = event.joules is not None
            found.append(
                {
                    "meter": event.client,
                    "what": event.stage.removeprefix("machine").removeprefix("-") or None,
                    "sample_j": event.joules / len(well) if known and well else None,
                    "watts": event.joules / event.duration_s if known and event.duration_s else None,
                    "seconds": event.duration_s,
                    "provenance": event.provenance,
                    "detail": event.detail,
                }
            )
    return found


def figures(events: Sequence[Event], *, learned: bool = True) -> dict[str, Any]:
    """What :func:`fedsim.measure.summary.summarise` derives from the events of one method that sends."""
    totals = [event for event in events if event.stage == "total"]
    answered = {event.sample for event in totals if event.outcome == "answered"}
    well = {event.sample for event in totals if event.outcome != "failed" and event.sample is not None}
    sends = [event for event in events if event.stage == "send"]
    sent = [event for event in sends if event.sample in answered]
    streams = [event for event in events if event.stage == "stream"]
    carried = [event.wire_bytes for event in streams]
    outcomes = [event.outcome for event in totals]
    right = [event.outcome != "failed" and event.label == event.prediction for event in totals]
    correct = sum(right) if all(event.label is not None for event in totals) else None

    def level(of: Callable[[Event], float | None]) -> dict[str, float] | None:
        return distribution([of(event) for event in sent])

    payloads = [event.payload_bytes for event in sent]
    attributed = [event.wire_bytes for event in sends]
    overhead = None
    if all_known(carried) and not (attributed and None in attributed):
        overhead = (sum(carried) - sum(attributed)) / len(carried)
    latency = {}
    for stage in STAGES:
        durations = [event.duration_s for event in events if event.stage == stage and event.sample in well]
        if durations:
            latency[stage] = spread(durations, 1e3)
    ended = [event for event in totals if event.sample in well]
    response = None
    if all_known([event.due_s for event in ended]):
        response = spread([event.start_s + event.duration_s - event.due_s for event in ended], 1e3)
    span = max(event.start_s + event.duration_s for event in totals) - min(event.start_s for event in totals)
    spent = energy(events, well, correct)
    empty = len({event.client for event in events if event.stage == "battery-empty"})
    return {
        "samples": len(totals),
        "outcomes": {name: outcomes.count(name) for name in ("answered", "local", "failed")},
        "accuracy": None if correct is None else correct / len(totals),
        "accuracy_interval": None if correct is None else wilson_interval(correct, len(totals)),
        "ideal_bytes": level(lambda event: None if event.ideal_bits is None else event.ideal_bits / 8),
        "payload_bytes": level(lambda event: event.payload_bytes),
        "frame_bytes": level(lambda event: event.frame_bytes),
        "wire_bytes": level(lambda event: event.wire_bytes),
        "reply_wire_bytes": level(lambda event: event.reply_wire_bytes),
        "stream_wire_bytes_mean": sum(carried) / len(answered) if all_known(carried) and answered else None,
        "stream_overhead_bytes": None if overhead is None or overhead < 0 else overhead,
        "sc2_kilobytes": statistics.fmean(sc2_kilobytes(size) for size in payloads if size is not None)
        if learned and all_known(payloads)
        else None,
        "latency_ms": latency,
        "response_ms": response,
        "answered_per_s": len(well) / span if span > 0 else None,
        "energy": spent,
        "devices_empty": empty if spent is not None or empty else None,
        "machine": machine(events, well),
        "latency_provenance": weakest([event for event in events if event.stage in STAGES]),
    }
