"""The results of a run as tables for a terminal, whole at whatever width it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from edge.meter import STAGES, Provenance
from fedsim.measure.blocks import NOT_APPLICABLE, Block, engineering, print_tables, spread
from fedsim.measure.schema import Distribution, Energy, Latency, Row, Summary

__all__ = ["cost_tables", "energy_tables", "latency_tables", "machine_tables", "print_results"]

_UNAVAILABLE = "unavailable"


def print_results(summary: Summary, console: Console) -> None:
    """Print accuracy with bytes and compute, latency by stage, energy, and what is to be known of the models.

    What does not fit the console's width beside the method becomes a table of its own. Nothing is cut
    off or broken: a console too narrow even for that gets lines longer than it is wide.
    """
    width = console.width
    tables = [*cost_tables(summary, width), *latency_tables(summary, width)]
    tables += [*energy_tables(summary, width), *machine_tables(summary, width)]
    print_tables(tables, console)
    for row in summary.rows:
        for remark in row.remarks:
            console.print(f"Note: {remark}.", markup=False)
    for remark in summary.remarks:
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
    """One row for each method: p50 / p95 of each stage. Arguments as of :func:`cost_tables`.

    Where samples were due at some time, ``response`` is from then until they ended.
    """
    columns = [(stage, [_latency(row.latency_ms.get(stage)) for row in summary.rows]) for stage in STAGES]
    if any(row.response_ms is not None for row in summary.rows):
        columns.append(("response", [_latency(row.response_ms) for row in summary.rows]))
    blocks = [Block("latency in ms, p50 / p95", [column]) for column in columns]
    return _tables(summary, blocks, width)


def energy_tables(summary: Summary, width: int) -> list[Table]:
    """One row for each method: what a sample costs on the device. Arguments as of :func:`cost_tables`.

    ``radio`` is waking it, the transfers and the tails; ``sum`` is all that samples cost above a device at
    rest, ``per correct`` the same over those told rightly, and ``at rest`` what the device and its sleeping
    radio draw all the time. No table where no energy is known.
    """
    energies = [row.energy for row in summary.rows]
    if not any(energies):
        return []
    columns: dict[str, Callable[[Energy], float | None]] = {
        "head": lambda energy: energy.head_j,
        "encode": lambda energy: energy.encode_j,
        "radio": _radio,
        "sum": lambda energy: energy.incremental_j,
        "per\ncorrect": lambda energy: energy.per_correct_j,
        "at rest": lambda energy: _sum(energy.base_j, energy.idle_j),
    }
    subject = "energy on the device, mJ a sample"
    blocks = [
        Block(subject, [(name, [NOT_APPLICABLE if one is None else _mj(of(one)) for one in energies])])
        for name, of in columns.items()
    ]
    words = [NOT_APPLICABLE if one is None else one.provenance for one in energies]
    blocks.append(Block(subject, [("provenance", words)]))
    if any(row.devices_empty for row in summary.rows):
        empty = [
            NOT_APPLICABLE if row.devices_empty is None else str(row.devices_empty) for row in summary.rows
        ]
        blocks.append(Block("batteries", [("devices\nempty", empty)]))
    return _tables(summary, blocks, width)


def machine_tables(summary: Summary, width: int) -> list[Table]:
    """One row for each method: what the machine's meters said. Arguments as of :func:`cost_tables`.

    No table where none of them gave a reading, and no column for one that gave none.
    """
    meters = dict.fromkeys(one.meter for row in summary.rows for one in row.machine if one.watts is not None)
    subject = "energy of this machine, mJ a sample / mean W, measured"
    columns = [(name, [_metered(row, name) for row in summary.rows]) for name in meters]
    return _tables(summary, [Block(subject, [column]) for column in columns], width)


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


def _latency(found: Latency | None) -> str:
    return NOT_APPLICABLE if found is None else f"{_ms(found.p50)} / {_ms(found.p95)}"


def _radio(energy: Energy) -> float | None:
    parts = (energy.send_j, energy.promotion_j, energy.tail_j)
    # Where the sum is known, a cause that is null did not arise.
    return None if energy.incremental_j is None and None in parts else _sum(*parts)


def _sum(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _mj(joules: float | None) -> str:
    """Millijoules to about three digits; one sample may cost microjoules or joules."""
    if joules is None:
        return NOT_APPLICABLE
    value = 1e3 * joules
    return f"{value:.3g}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _metered(row: Row, meter: str) -> str:
    reading = next((one for one in row.machine if one.meter == meter), None)
    if reading is None:
        return NOT_APPLICABLE
    return _UNAVAILABLE if reading.watts is None else f"{_mj(reading.sample_j)} / {reading.watts:.1f}"


def _troubles(row: Row) -> str:
    """``fallback / failed`` sample counts, empty where neither happened."""
    fallback = 0 if row.bottleneck is None else row.outcomes.local
    return f"{fallback} / {row.outcomes.failed}" if fallback or row.outcomes.failed else ""


def _ms(value: float) -> str:
    """Milliseconds to about three digits: a stage may take microseconds or seconds."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
