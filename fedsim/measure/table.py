"""The results of a run as tables for a terminal, whole at whatever width it has."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from edge.meter import STAGES, Provenance
from fedsim.measure.blocks import NOT_APPLICABLE, Block, engineering, print_tables, spread
from fedsim.measure.schema import Distribution, Row, Summary

__all__ = ["cost_tables", "latency_tables", "print_results"]

_UNAVAILABLE = "unavailable"


def print_results(summary: Summary, console: Console) -> None:
    """Print accuracy with bytes and compute, then latency by stage, then what is to be known of the models.

    What does not fit the console's width beside the method becomes a table of its own. Nothing is cut
    off or broken: a console too narrow even for that gets lines longer than it is wide.
    """
    print_tables([*cost_tables(summary, console.width), *latency_tables(summary, console.width)], console)
    for row in summary.rows:
        for remark in row.remarks:
            console.print(f"Note: {remark}.", markup=False)


def cost_tables(summary: Summary, width: int) -> list[Table]:
    """One row for each method: accuracy, bytes at three levels, compute on the device.

    Where samples failed, or were answered on the device in place of the server, a column says how
    many. A mean after ``~`` is over whole streams, where samples could not be measured one by one.

    Args:
        summary: of the run.
        width: characters of a line; the columns are spread over as few tables as fit it.
    """
    rows = summary.rows
    size = "mean / p95 / max"
    levels = [(row, row.provenance.bytes) for row in rows]
    rates = [("rate", [_rate(row) for row in rows])]
    if any(row.level is not None for row in rows):
        rates.append(("level", [NOT_APPLICABLE if row.level is None else str(row.level) for row in rows]))
    blocks = [
        Block("accuracy", [*rates, ("accuracy, %\n(95 %)", [_accuracy(row) for row in rows])]),
        Block("bytes", [(f"payload, B\n{size}", [_bytes(r.payload_bytes, p.payload) for r, p in levels])]),
        Block("bytes", [(f"frame, B\n{size}", [_bytes(r.frame_bytes, p.frame) for r, p in levels])]),
        Block("bytes", [(f"wire, B\n{size}", [_wire(row) for row in rows])]),
        Block(
            "cost on the device",
            [
                ("head\nMAC", [engineering(row.head_macs) for row in rows]),
                ("head\nparam.", [engineering(row.head_parameters) for row in rows]),
            ],
        ),
    ]
    if any(_troubles(row) for row in rows):
        cells = [_troubles(row) or NOT_APPLICABLE for row in rows]
        blocks.append(Block("samples in trouble", [("fallback\n/ failed", cells)]))
    for name in dict.fromkeys(name for row in rows for name in row.tasks):
        column = f"{name},\n{_metric(name, rows)}", [_task(row, name) for row in rows]
        blocks.append(Block("further tasks", [column]))
    return _tables(summary, blocks, width)


def latency_tables(summary: Summary, width: int) -> list[Table]:
    """One row for each method: p50 / p95 of each stage. Arguments as of :func:`cost_tables`."""
    blocks = [
        Block("latency in ms, p50 / p95", [(stage, [_latency(row, stage) for row in summary.rows])])
        for stage in STAGES
    ]
    return _tables(summary, blocks, width)


def _tables(summary: Summary, blocks: Sequence[Block], width: int) -> list[Table]:
    name = str(summary.scenario.get("name", "results"))
    return spread(name, "method", [row.method for row in summary.rows], blocks, width)


def _rate(row: Row) -> str:
    return NOT_APPLICABLE if row.rate is None else f"{row.rate:g}"


def _accuracy(row: Row) -> str:
    if row.accuracy is None or row.accuracy_interval is None:
        return _UNAVAILABLE
    low, high = row.accuracy_interval
    return f"{100 * row.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"  # noqa: RUF001


def _metric(name: str, rows: Sequence[Row]) -> str:
    metric = next(row.tasks[name].metric for row in rows if name in row.tasks)
    return {"accuracy": "accuracy, %", "r2": "R²"}.get(metric, metric)


def _task(row: Row, name: str) -> str:
    if (task := row.tasks.get(name)) is None:
        return NOT_APPLICABLE
    return f"{100 * task.value:.1f}" if task.metric == "accuracy" else f"{task.value:.3f}"


def _bytes(values: Distribution | None, provenance: Provenance | None) -> str:
    if provenance is None:
        return NOT_APPLICABLE
    if values is None:
        return _UNAVAILABLE
    return " / ".join(f"{value:.0f}" for value in (values.mean, values.p95, values.max))


def _wire(row: Row) -> str:
    if row.wire_bytes is None and row.stream_wire_bytes_mean is not None:
        return f"~ {row.stream_wire_bytes_mean:.0f}"
    return _bytes(row.wire_bytes, row.provenance.bytes.wire)


def _latency(row: Row, stage: str) -> str:
    found = row.latency_ms.get(stage)
    return NOT_APPLICABLE if found is None else f"{_ms(found.p50)} / {_ms(found.p95)}"


def _troubles(row: Row) -> str:
    """``fallback / failed`` sample counts, empty where neither happened."""
    fallback = 0 if row.bottleneck is None else row.outcomes.local
    return f"{fallback} / {row.outcomes.failed}" if fallback or row.outcomes.failed else ""


def _ms(value: float) -> str:
    """Milliseconds to about three digits: a stage may take microseconds or seconds."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
