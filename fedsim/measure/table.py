"""The results of a run as tables for a terminal, whole at whatever width it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from edge.meter import STAGES, Provenance
from fedsim.measure.schema import Distribution, Row, Summary

__all__ = ["cost_tables", "latency_tables", "print_results"]

_NOT_APPLICABLE = "–"  # noqa: RUF001
_UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class _Block:
    """Columns that stay together in one table, each a header and a cell for every row."""

    subject: str  #: a word for the table's title
    columns: Sequence[tuple[str, Sequence[str]]]


def print_results(summary: Summary, console: Console) -> None:
    """Print accuracy with bytes and compute, then latency by stage.

    What does not fit the console's width beside the method becomes a table of its own. Nothing is cut
    off or broken: a console too narrow even for that gets lines longer than it is wide.
    """
    for table in (*cost_tables(summary, console.width), *latency_tables(summary, console.width)):
        console.print(table, crop=False, no_wrap=True, overflow="ignore")
        console.print()


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
    blocks = [
        _Block(
            "accuracy",
            [
                ("rate", [_rate(row) for row in rows]),
                ("accuracy, %\n(95 %)", [_accuracy(row) for row in rows]),
            ],
        ),
        _Block("bytes", [(f"payload, B\n{size}", [_bytes(r.payload_bytes, p.payload) for r, p in levels])]),
        _Block("bytes", [(f"frame, B\n{size}", [_bytes(r.frame_bytes, p.frame) for r, p in levels])]),
        _Block("bytes", [(f"wire, B\n{size}", [_wire(row) for row in rows])]),
        _Block(
            "cost on the device",
            [
                ("head\nMAC", [_engineering(row.head_macs) for row in rows]),
                ("head\nparam.", [_engineering(row.head_parameters) for row in rows]),
            ],
        ),
    ]
    if any(_troubles(row) for row in rows):
        cells = [_troubles(row) or _NOT_APPLICABLE for row in rows]
        blocks.append(_Block("samples in trouble", [("fallback\n/ failed", cells)]))
    return _tables(str(summary.scenario.get("name", "results")), rows, blocks, width)


def latency_tables(summary: Summary, width: int) -> list[Table]:
    """One row for each method: p50 / p95 of each stage. Arguments as of :func:`cost_tables`."""
    blocks = [
        _Block("latency in ms, p50 / p95", [(stage, [_latency(row, stage) for row in summary.rows])])
        for stage in STAGES
    ]
    return _tables(str(summary.scenario.get("name", "results")), summary.rows, blocks, width)


def _tables(name: str, rows: Sequence[Row], blocks: Sequence[_Block], width: int) -> list[Table]:
    """The blocks in their order, as many in each table as fit."""
    groups: list[list[_Block]] = []
    for block in blocks:
        if groups and _natural_width(_table(name, rows, [*groups[-1], block])) <= width:
            groups[-1].append(block)
        else:
            groups.append([block])
    tables = [_table(name, rows, group) for group in groups]
    for table in tables:
        table.width = _natural_width(table)  # or rich would squeeze it into a narrower console
    return tables


def _table(name: str, rows: Sequence[Row], blocks: Sequence[_Block]) -> Table:
    title = f"{name}: {', '.join(dict.fromkeys(block.subject for block in blocks))}"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("method", no_wrap=True)
    columns = [column for block in blocks for column in block.columns]
    for header, _ in columns:
        table.add_column(header, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(row.method, *(cells[index] for _, cells in columns))
    return table


def _natural_width(table: Table) -> int:
    """Characters of a line of the table where nothing limits it."""
    unlimited = Console(width=10_000)
    return unlimited.measure(table).maximum


def _rate(row: Row) -> str:
    return _NOT_APPLICABLE if row.rate is None else f"{row.rate:g}"


def _accuracy(row: Row) -> str:
    if row.accuracy is None or row.accuracy_interval is None:
        return _UNAVAILABLE
    low, high = row.accuracy_interval
    return f"{100 * row.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"  # noqa: RUF001


def _bytes(values: Distribution | None, provenance: Provenance | None) -> str:
    if provenance is None:
        return _NOT_APPLICABLE
    if values is None:
        return _UNAVAILABLE
    return " / ".join(f"{value:.0f}" for value in (values.mean, values.p95, values.max))


def _wire(row: Row) -> str:
    if row.wire_bytes is None and row.stream_wire_bytes_mean is not None:
        return f"~ {row.stream_wire_bytes_mean:.0f}"
    return _bytes(row.wire_bytes, row.provenance.bytes.wire)


def _latency(row: Row, stage: str) -> str:
    found = row.latency_ms.get(stage)
    return _NOT_APPLICABLE if found is None else f"{_ms(found.p50)} / {_ms(found.p95)}"


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
