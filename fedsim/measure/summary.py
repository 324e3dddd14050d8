"""From the ledger to the figures of a run.

``python -m fedsim.measure.summary`` prints the JSON Schema of ``summary.json``.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge.meter import STAGES, Provenance
from fedsim.measure import environment
from fedsim.measure.ledger import LedgerError
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
    table: pa.Table,
    scenario: Mapping[str, Any],
    seed: int,
    model_costs: Mapping[str, ModelCost],
    order: Sequence[str],
    duration_s: float,
    inputs: Mapping[str, str] | None = None,
) -> Summary:
    """The summary of a run.

    Args:
        table: the ledger (:data:`fedsim.measure.ledger.SCHEMA`), already checked for completeness.
        scenario: the resolved scenario, plain JSON values.
        seed: of the run.
        model_costs: for each method.
        order: the methods in the order of the rows.
        duration_s: wall time of the run.
        inputs: digests of what the scenario names and does not hold.

    Raises:
        LedgerError: the methods of the ledger are not those of ``order`` and ``model_costs``, or the
            events of one method contradict each other.
    """
    found = set(table["method"].to_pylist())
    if len(set(order)) != len(order):
        raise LedgerError(f"methods named twice in the order of rows: {list(order)}")
    for name, methods in (("order of rows", set(order)), ("model costs", set(model_costs))):
        if methods != found:
            raise LedgerError(f"methods of the ledger {sorted(found)}, but of the {name} {sorted(methods)}")
    rows = [_row(m, _where(table, "method", {m}), model_costs[m]) for m in order]
    return Summary(
        scenario=dict(scenario),
        inputs=dict(inputs or {}),
        seed=seed,
        environment=environment.describe(),
        duration_s=duration_s,
        rows=rows,
    )


def _row(method: str, events: pa.Table, cost: ModelCost) -> Row:
    totals = _stage(events, "total")
    if not len(totals):
        raise LedgerError(f"{method}: no sample ended")
    outcomes = totals["outcome"].to_pylist()
    samples = totals["sample"].to_pylist()
    by_server = {s for s, outcome in zip(samples, outcomes, strict=True) if outcome == "answered"}
    ended_well = by_server | {s for s, outcome in zip(samples, outcomes, strict=True) if outcome == "local"}
    sends = _where(_stage(events, "send"), "sample", by_server)
    if sends.num_rows != len(by_server):
        raise LedgerError(f"{method}: {len(by_server)} samples answered by the server, {sends.num_rows} sent")

    accuracy, interval = _accuracy(totals)
    payload = _column(sends, "payload_bytes")
    levels = {
        "ideal": _scaled(_column(sends, "ideal_bits"), 1 / 8),
        "payload": payload,
        "frame": _column(sends, "frame_bytes"),
        "wire": _column(sends, "wire_bytes"),
    }
    local = cost.bottleneck is None
    obtained = _provenance(sends)
    streams = _stage(events, "stream")
    stream_mean = _stream_mean(streams, len(by_server))
    overhead, detail = (None, None) if local else _stream_overhead(events, streams)
    by_level = {level: _byte_provenance(level, values, obtained) for level, values in levels.items()}
    by_level["stream"] = "unavailable" if stream_mean is None else _provenance(streams)
    return Row(
        method=method,
        bottleneck=cost.bottleneck,
        learned=cost.learned,
        rate=_rate(method, events),
        level=cost.level,
        samples=len(outcomes),
        outcomes=Outcomes(**{name: outcomes.count(name) for name in ("answered", "local", "failed")}),
        accuracy=accuracy,
        accuracy_interval=interval,
        ideal_bytes=_distribution(levels["ideal"]),
        payload_bytes=_distribution(payload),
        constant_bytes=cost.constant_bytes,
        frame_bytes=_distribution(levels["frame"]),
        wire_bytes=_distribution(levels["wire"]),
        reply_wire_bytes=_distribution(_column(sends, "reply_wire_bytes")),
        stream_wire_bytes_mean=stream_mean,
        stream_overhead_bytes=overhead,
        stream_overhead_detail=detail,
        sc2_kilobytes=_sc2(payload) if cost.learned else None,
        latency_ms=_latency(events, ended_well),
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
            latency=_provenance(_where(events, "stage", STAGES)),
        ),
    )


def _where(events: pa.Table, column: str, values: Container[object]) -> pa.Table:
    """The rows whose ``column`` holds one of the values."""
    return events.filter(pa.array([value in values for value in events[column].to_pylist()], pa.bool_()))


def _stage(events: pa.Table, stage: str) -> pa.Table:
    return _where(events, "stage", {stage})


def _column(events: pa.Table, name: str) -> NDArray[np.float64] | None:
    """The values of a column, or None where there is none or one of them is unknown."""
    column = events[name]
    if not len(column) or column.null_count:
        return None
    return np.asarray(column.to_numpy(), dtype=np.float64)


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
    return float(np.mean([sc2_kilobytes(int(size)) for size in payload]))


def _accuracy(totals: pa.Table) -> tuple[float | None, tuple[float, float] | None]:
    """Accuracy with its interval; a failed sample is wrong. Nothing without all labels."""
    columns = ("outcome", "label", "prediction")
    ends = list(zip(*(totals[name].to_pylist() for name in columns), strict=True))
    if any(label is None for _, label, _ in ends):
        return None, None
    correct = sum(outcome != "failed" and label == prediction for outcome, label, prediction in ends)
    return correct / len(ends), wilson_interval(correct, len(ends))


def _latency(events: pa.Table, samples: set[int]) -> dict[str, Latency]:
    """By stage, the stages in their order, those that happened."""
    mine = _where(events, "sample", samples)
    durations = {stage: _column(_stage(mine, stage), "duration_s") for stage in STAGES}
    return {
        stage: Latency(p50=1e3 * percentile(values, 50), p95=1e3 * percentile(values, 95))
        for stage, values in durations.items()
        if values is not None
    }


def _stream_mean(streams: pa.Table, answered: int) -> float | None:
    """All bytes of the streams for each sample that the server answered, or None where that is unknown."""
    carried = _column(streams, "wire_bytes")
    return None if carried is None or not answered else float(carried.sum()) / answered


def _stream_overhead(events: pa.Table, streams: pa.Table) -> tuple[float | None, str | None]:
    """Mean bytes of a stream that belong to no sample, or why they are not known."""
    carried = _column(streams, "wire_bytes")
    if carried is None:
        return None, "the bytes of the streams could not be measured" if len(streams) else "no stream"
    # What was sent for samples that failed in the end went through the same streams.
    sends = _stage(events, "send")
    samples = _column(sends, "wire_bytes")
    if samples is None and len(sends):
        return None, "the bytes of the samples could not be measured one by one"
    attributed = 0.0 if samples is None else float(samples.sum())
    overhead = (float(carried.sum()) - attributed) / len(carried)
    if overhead < 0:
        total = f"{carried.sum():.0f} B"
        return None, f"the samples account for {attributed:.0f} B, more than the {total} of their streams"
    return overhead, None


def _rate(method: str, events: pa.Table) -> float | None:
    rates: set[float | None] = set(events["rate"].to_pylist())
    if len(rates) > 1:
        raise LedgerError(f"{method}: events with different rates: {sorted(map(str, rates))}")
    return next(iter(rates))


def _provenance(events: pa.Table) -> Provenance:
    """How the durations or bytes of the events were obtained: the weakest of them."""
    found = set(events["provenance"].to_pylist())
    ranked: tuple[Provenance, ...] = ("unavailable", "modelled", "measured")
    return next((p for p in ranked if p in found), "unavailable")


def _byte_provenance(level: str, values: NDArray[np.float64] | None, obtained: Provenance) -> Provenance:
    if values is None:
        return "unavailable"
    return "modelled" if level == "ideal" else obtained


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
