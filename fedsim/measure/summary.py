"""From the ledger to the figures of a run.

``python -m fedsim.measure.summary`` prints the JSON Schema of ``summary.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from edge.meter import STAGES, Provenance
from fedsim.measure import environment
from fedsim.measure.energy import energy
from fedsim.measure.ledger import Events, LedgerError, as_dataset
from fedsim.measure.machine import machine, machine_events
from fedsim.measure.rows import MethodEvents, known, weakest
from fedsim.measure.sc2 import sc2_kilobytes
from fedsim.measure.schema import (
    ByteProvenance,
    Distribution,
    Latency,
    Outcomes,
    Row,
    RowProvenance,
    Summary,
    SummaryError,
    Task,
    json_schema,
)
from fedsim.measure.statistics import percentile, wilson_interval

__all__ = ["ModelCost", "Summary", "SummaryError", "json_schema", "summarise"]


@dataclass(frozen=True)
class ModelCost:
    """What the ledger does not know of a method: its bottleneck, what its halves cost, what else is known."""

    bottleneck: str | None  #: name of the bottleneck; None where the whole network runs on the device
    learned: bool  #: whether the bottleneck was trained and codes with a learned prior
    head_macs: int  #: of one sample on the device, encoder included
    head_parameters: int
    tail_macs: int  #: of one sample on the server, decoder included
    tail_parameters: int
    level: int | None = None  #: at which samples are encoded, of a bottleneck that has several
    constant_bytes: int = 0  #: of every payload, that say nothing of its sample
    head_bytes: int = 0  #: of the weights file that a device is given
    erasure: float | None = None  #: probability that a packet is lost, mean over the devices
    tasks: Mapping[str, Task] = field(default_factory=dict)  #: how further tasks are done
    remarks: tuple[str, ...] = ()  #: what is to be known of the model


def summarise(
    ledger: Events,
    scenario: Mapping[str, Any],
    seed: int,
    model_costs: Mapping[str, ModelCost],
    order: Sequence[str],
    duration_s: float,
    inputs: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
    distinct: int | None = None,
) -> Summary:
    """The summary of a run.

    Args:
        ledger: of the run, already checked for completeness; the rounds of a federation in it are left out.
        scenario: the resolved scenario, plain JSON values.
        seed: of the run.
        model_costs: for each method.
        order: the methods in the order of the rows.
        duration_s: wall time of the run.
        inputs: digests of what the scenario names and does not hold.
        remarks: what is to be known of the run as a whole.
        distinct: samples of the data, where a run may go through them more than once: what is told of one of
            them again is no further trial of the accuracy. By default each is met once.

    Raises:
        LedgerError: the methods of the ledger are not those of ``order`` and ``model_costs``, or the
            events of one method contradict each other.
    """
    events = as_dataset(ledger).filter(pc.field("round").is_null())
    found: set[str] = set()
    for batch in events.to_batches(columns=["method"]):
        found.update(batch["method"].unique().to_pylist())
    if len(set(order)) != len(order):
        raise LedgerError(f"methods named twice in the order of rows: {list(order)}")
    for name, methods in (("order of rows", set(order)), ("model costs", set(model_costs))):
        if methods != found:
            raise LedgerError(f"methods of the ledger {sorted(found)}, but of the {name} {sorted(methods)}")
    metered = machine_events(events)
    rows = [
        _row(MethodEvents.read(method, events), metered, model_costs[method], distinct) for method in order
    ]
    return Summary(
        scenario=dict(scenario),
        inputs=dict(inputs or {}),
        seed=seed,
        environment=environment.describe(),
        duration_s=duration_s,
        rows=rows,
        remarks=list(remarks),
    )


def _row(events: MethodEvents, metered: pa.Table, cost: ModelCost, distinct: int | None) -> Row:
    method = events.method
    totals = events.stage("total")
    if not len(totals):
        raise LedgerError(f"{method}: no sample ended")
    by_server, well = events.ended("answered"), events.ended("answered", "local")
    sends = events.of_samples("send", by_server)
    if len(sends) != len(by_server):
        raise LedgerError(f"{method}: {len(by_server)} samples answered by the server, {len(sends)} sent")

    correct = _correct(totals)
    payload = known(sends, "payload_bytes")
    levels = {
        "ideal": _scaled(known(sends, "ideal_bits"), 1 / 8),
        "payload": payload,
        "frame": known(sends, "frame_bytes"),
        "wire": known(sends, "wire_bytes"),
    }
    local = cost.bottleneck is None
    obtained = _provenance(sends)
    streams = events.stage("stream")
    stream_mean = _stream_mean(streams, len(by_server))
    overhead, detail = (None, None) if local else _stream_overhead(events, streams)
    by_level = {level: _byte_provenance(level, values, obtained) for level, values in levels.items()}
    by_level["stream"] = "unavailable" if stream_mean is None else _provenance(streams)
    spent = energy(events, well, correct)
    empty = events.devices_empty
    return Row(
        method=method,
        bottleneck=cost.bottleneck,
        learned=cost.learned,
        rate=_rate(events),
        level=cost.level,
        samples=len(totals),
        outcomes=_outcomes(totals),
        accuracy=None if correct is None else correct / len(totals),
        accuracy_interval=None if correct is None else _interval(correct, len(totals), distinct),
        ideal_bytes=_distribution(levels["ideal"]),
        payload_bytes=_distribution(payload),
        constant_bytes=cost.constant_bytes,
        frame_bytes=_distribution(levels["frame"]),
        wire_bytes=_distribution(levels["wire"]),
        reply_wire_bytes=_distribution(known(sends, "reply_wire_bytes")),
        stream_wire_bytes_mean=stream_mean,
        stream_overhead_bytes=overhead,
        stream_overhead_detail=detail,
        sc2_kilobytes=_sc2(payload) if cost.learned else None,
        latency_ms=_latency(events, well),
        response_ms=_response(events.of_samples("total", well)),
        answered_per_s=_throughput(totals, len(well)),
        energy=spent,
        devices_empty=None if spent is None and not empty else empty,
        machine=machine(metered, method, len(well)),
        head_macs=cost.head_macs,
        head_parameters=cost.head_parameters,
        head_bytes=cost.head_bytes,
        tail_macs=cost.tail_macs,
        tail_parameters=cost.tail_parameters,
        erasure=None if local else cost.erasure,
        tasks=dict(cost.tasks),
        remarks=list(cost.remarks),
        provenance=RowProvenance(
            bytes=ByteProvenance(**(dict.fromkeys(by_level) if local else by_level)),
            latency=weakest({word for stage in STAGES for word in events.provenance.get(stage, ())}),
        ),
    )


def _scaled(values: NDArray[np.float64] | None, factor: float) -> NDArray[np.float64] | None:
    return None if values is None else values * factor


def _distribution(values: NDArray[np.float64] | None) -> Distribution | None:
    if values is None:
        return None
    return Distribution(
        mean=float(values.mean()),
        p50=percentile(values, 50),
        p95=percentile(values, 95),
        max=float(values.max()),
    )


def _sc2(payload: NDArray[np.float64] | None) -> float | None:
    if payload is None:
        return None
    sizes, counts = np.unique(payload, return_counts=True)
    return float(np.average([sc2_kilobytes(int(size)) for size in sizes], weights=counts))


def _outcomes(totals: pa.Table) -> Outcomes:
    counts = {one["values"]: one["counts"] for one in totals["outcome"].value_counts().to_pylist()}
    return Outcomes(**{name: counts.get(name, 0) for name in ("answered", "local", "failed")})


def _correct(totals: pa.Table) -> int | None:
    """How many were told rightly; a failed sample is wrong. Nothing without all labels."""
    if totals["label"].null_count:
        return None
    right = pc.and_(
        pc.equal(totals["label"], totals["prediction"]), pc.not_equal(totals["outcome"], "failed")
    )
    return int(pc.sum(right, min_count=0).as_py())


def _interval(correct: int, samples: int, distinct: int | None) -> tuple[float, float]:
    """Of the accuracy; that of as many trials as there are distinct samples, where there are more."""
    trials = samples if distinct is None else min(samples, distinct)
    return wilson_interval(correct * trials / samples, trials)


def _latency(events: MethodEvents, samples: NDArray[np.int64]) -> dict[str, Latency]:
    """By stage, the stages in their order, those that happened."""
    found = {stage: known(events.of_samples(stage, samples), "duration_s") for stage in STAGES}
    return {stage: _milliseconds(values) for stage, values in found.items() if values is not None}


def _response(ended: pa.Table) -> Latency | None:
    """From when samples were due until they ended, or None where one of them had no such time."""
    due, start, took = (known(ended, name) for name in ("due_s", "start_s", "duration_s"))
    if due is None or start is None or took is None:
        return None
    return _milliseconds(np.maximum(start - due, 0.0) + took)  # the clocks' rounding may go below


def _milliseconds(seconds: NDArray[np.float64]) -> Latency:
    return Latency(p50=1e3 * percentile(seconds, 50), p95=1e3 * percentile(seconds, 95))


def _throughput(totals: pa.Table, ended_well: int) -> float | None:
    """Samples that ended well a second, from the first one's beginning to the last one's end."""
    start = totals["start_s"].to_numpy()
    span = float((start + totals["duration_s"].to_numpy()).max() - start.min())
    return ended_well / span if span > 0 else None


def _stream_mean(streams: pa.Table, answered: int) -> float | None:
    """All bytes of the streams for each sample that the server answered, or None where that is unknown."""
    carried = known(streams, "wire_bytes")
    return None if carried is None or not answered else float(carried.sum()) / answered


def _stream_overhead(events: MethodEvents, streams: pa.Table) -> tuple[float | None, str | None]:
    """Mean bytes of a stream that belong to no sample, or why they are not known."""
    carried = known(streams, "wire_bytes")
    if carried is None:
        return None, "the bytes of the streams could not be measured" if len(streams) else "no stream"
    # What was sent for samples that failed in the end went through the same streams.
    sends = events.stage("send")
    samples = known(sends, "wire_bytes")
    if samples is None and len(sends):
        return None, "the bytes of the samples could not be measured one by one"
    attributed = 0.0 if samples is None else float(samples.sum())
    overhead = (float(carried.sum()) - attributed) / len(carried)
    if overhead < 0:
        total = f"{carried.sum():.0f} B"
        return None, f"the samples account for {attributed:.0f} B, more than the {total} of their streams"
    return overhead, None


def _rate(events: MethodEvents) -> float | None:
    if len(events.rates) > 1:
        listed = sorted(map(str, events.rates))
        raise LedgerError(f"{events.method}: events with different rates: {listed}")
    return next(iter(events.rates))


def _provenance(events: pa.Table) -> Provenance:
    return weakest(events["provenance"].unique().to_pylist())


def _byte_provenance(level: str, values: NDArray[np.float64] | None, obtained: Provenance) -> Provenance:
    if values is None:
        return "unavailable"
    return "modelled" if level == "ideal" else obtained


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
