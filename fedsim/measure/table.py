"""The results of a run as tables for a terminal, readable at 120 columns."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from edge.meter import STAGES, Provenance
from fedsim.measure.schema import Distribution, Row, Summary

__all__ = ["cost_table", "latency_table", "print_results"]

_NOT_APPLICABLE = "–"  # noqa: RUF001
_UNAVAILABLE = "unavailable"


def print_results(summary: Summary, console: Console) -> None:
    """Print accuracy with bytes and compute, then latency by stage."""
    console.print(cost_table(summary))
    console.print(latency_table(summary))


def cost_table(summary: Summary) -> Table:
    """One row for each method: accuracy, bytes at three levels, compute on the device.

    Where samples failed, or were answered on the device in place of the server, a column says how many.
    """
    table = _table(
        f"{summary.scenario.get('name', 'results')}: accuracy, bytes of a sample, cost on the device"
    )
    table.add_column("method", overflow="fold", min_width=8)
    for header in (
        "rate",
        "accuracy\n% (95 %)",
        "payload, B\nmean / p95 / max",
        "frame, B\nmean / p95 / max",
        "wire, B\nmean / p95 / max",
        "head\nMAC",
        "head\nparam.",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    troubled = any(_troubles(row) for row in summary.rows)
    if troubled:
        table.add_column("fallback\n/ failed", justify="right", no_wrap=True)
    for row in summary.rows:
        levels = row.provenance.bytes
        table.add_row(
            row.method,
            _NOT_APPLICABLE if row.rate is None else f"{row.rate:g}",
            _accuracy(row),
            _bytes(row.payload_bytes, levels.payload),
            _bytes(row.frame_bytes, levels.frame),
            _bytes(row.wire_bytes, levels.wire),
            _engineering(row.head_macs),
            _engineering(row.head_parameters),
            *([_troubles(row) or _NOT_APPLICABLE] if troubled else []),
        )
    return table


def latency_table(summary: Summary) -> Table:
    """One row for each method: p50 / p95 of each stage."""
    table = _table("Latency in ms, p50 / p95")
    table.add_column("method", overflow="fold", min_width=8)
    for stage in STAGES:
        table.add_column(stage, justify="right", no_wrap=True)
    for row in summary.rows:
        cells = (row.latency_ms.get(stage) for stage in STAGES)
        shown = (_NOT_APPLICABLE if c is None else f"{_ms(c.p50)} / {_ms(c.p95)}" for c in cells)
        table.add_row(row.method, *shown)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _accuracy(row: Row) -> str:
    if row.accuracy is None or row.accuracy_interval is None:
        return _UNAVAILABLE
    low, high = row.accuracy_interval
    return f"{100 * row.accuracy:.1f} ± {50 * (high - low):.1f}"


def _bytes(values: Distribution | None, provenance: Provenance | None) -> str:
    if provenance is None:
        return _NOT_APPLICABLE
    if values is None:
        return _UNAVAILABLE
    return " / ".join(f"{value:.0f}" for value in (values.mean, values.p95, values.max))


def _troubles(row: Row) -> str:
    """``fallback / failed`` sample counts, empty where neither happened."""
    fallback = 0 if row.bottleneck is None else row.outcomes.local
    return f"{fallback} / {row.outcomes.failed}" if fallback or row.outcomes.failed else ""


def _engineering(value: int) -> str:
    """Three significant digits with a metric prefix: 1234567 as ``1.23 M``."""
    scaled = float(value)
    for prefix in ("", "k", "M", "G", "T"):
        if scaled < 999.5 or prefix == "T":
            break
        scaled /= 1000
    if not prefix:
        return str(value)
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f} {prefix}"


def _ms(value: float) -> str:
    """Milliseconds to about three digits: a stage may take microseconds or seconds."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
