"""The figures of a sweep as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from fedsim.measure.blocks import NOT_APPLICABLE, Block, engineering, print_tables, spread
from fedsim.measure.tradeoff.figures import Comparison, Estimate, LabelFigures, Tradeoff

__all__ = ["comparison_tables", "label_tables", "print_tradeoff", "reasons"]

_NAME = "trade-off"


def print_tradeoff(tradeoff: Tradeoff, console: Console) -> None:
    """Print what each method came to, the families against the anchor, and the notes.

    Nothing is cut off: columns that do not fit the console's width become tables of their own.
    """
    print_tables(label_tables(tradeoff, console.width), console)
    print_tables(comparison_tables(tradeoff, console.width), console)
    for note in (*reasons(tradeoff), *tradeoff.notes):
        console.print(f"Note: {note}.", markup=False, highlight=False, soft_wrap=True)


def label_tables(tradeoff: Tradeoff, width: int) -> list[Table]:
    """One row for each method, families apart: bytes, accuracy, compute, and its place on the fronts."""
    labels = tradeoff.labels
    over = "95 %" if any(one.interval_over == "seeds" for one in labels) else "Wilson 95 %"
    columns = [("bytes,\nmean", [_size(one, one.payload_bytes) for one in labels])]
    if any(one.payload_interval for one in labels):
        columns.append(("±", [_size_spread(one) for one in labels]))
    if any(one.constant_bytes for one in labels):
        columns.append(("of it\nconstant", [_size(one, one.constant_bytes) for one in labels]))
    front = [
        ("front:\nbytes", [_flag(one.front) for one in labels]),
        ("front:\nwith MAC", [_flag(one.front_with_macs) for one in labels]),
    ]
    blocks = [
        Block("bytes", [("seeds", [str(len(one.seeds)) for one in labels]), *columns]),
        Block("accuracy", [(f"accuracy, %\n({over})", [_accuracy(one) for one in labels])]),
        Block(
            "cost on the device",
            [
                ("head\nMAC", [engineering(one.head_macs) for one in labels]),
                ("head\nparam.", [engineering(one.head_parameters) for one in labels]),
            ],
        ),
        Block("Pareto front", front),
    ]
    counts = Counter(one.family for one in labels)
    sections = [
        i
        for i, (one, after) in enumerate(pairwise(labels))
        if one.family != after.family and max(counts[one.family], counts[after.family]) > 1
    ]
    return spread(_NAME, "method", [one.label for one in labels], blocks, width, sections)


def comparison_tables(tradeoff: Tradeoff, width: int) -> list[Table]:
    """One row for each family against the anchor; empty without an anchor or without other families."""
    rows = tradeoff.comparisons
    if not rows:
        return []
    blocks = [
        Block(
            "bytes at equal accuracy",
            [
                ("BD-rate, %\n(95 %)", [_rate(row.rate) for row in rows]),
                ("over accuracies\nin common, %", [_accuracies(row.rate) for row in rows]),
            ],
        ),
        Block(
            "accuracy at equal bytes",
            [
                ("BD-accuracy,\npoints (95 %)", [_points(row.accuracy) for row in rows]),
                ("over sizes\nin common, B", [_sizes(row.accuracy) for row in rows]),
            ],
        ),
    ]
    return spread(f"against {tradeoff.anchor}", "family", [_name(row) for row in rows], blocks, width)


def reasons(tradeoff: Tradeoff) -> list[str]:
    """Why figures of the comparison are missing, or of some seeds only; families of one reason together."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in tradeoff.comparisons:
        of_rate, of_accuracy = row.rate.reason, row.accuracy.reason
        if of_rate and of_rate == of_accuracy:
            found.setdefault(("BD-rate and BD-accuracy", of_rate), []).append(_name(row))
            continue
        for what, reason in (("BD-rate", of_rate), ("BD-accuracy", of_accuracy)):
            if reason:
                found.setdefault((what, reason), []).append(_name(row))
    return [f"no {what} of {', '.join(names)}: {reason}" for (what, reason), names in found.items()]


def _name(row: Comparison) -> str:
    return row.family if row.part == "payload" else f"{row.family} without constant"


def _flag(flag: bool) -> str:
    return "yes" if flag else NOT_APPLICABLE


def _size(one: LabelFigures, value: float) -> str:
    return NOT_APPLICABLE if one.local else _three_digits(value)


def _size_spread(one: LabelFigures) -> str:
    if one.local or one.payload_interval is None:
        return NOT_APPLICABLE
    return _three_digits(one.payload_interval[1] - one.payload_bytes)


def _accuracy(one: LabelFigures) -> str:
    low, high = one.accuracy_interval
    return f"{100 * one.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"  # noqa: RUF001


def _rate(estimate: Estimate) -> str:
    return _signed(estimate, 0 if (estimate.mean or 0) >= 99.95 else 1)


def _points(estimate: Estimate) -> str:
    return _signed(estimate, 2)


def _signed(estimate: Estimate, digits: int) -> str:
    if estimate.mean is None:
        return NOT_APPLICABLE
    text = f"{estimate.mean:+.{digits}f}"
    if estimate.interval is None:
        return text
    low, high = estimate.interval
    return f"{text} ({low:+.{digits}f} to {high:+.{digits}f})"


def _accuracies(estimate: Estimate) -> str:
    if estimate.common is None:
        return NOT_APPLICABLE
    low, high = estimate.common
    return f"{100 * low:.1f}–{100 * high:.1f}"  # noqa: RUF001


def _sizes(estimate: Estimate) -> str:
    if estimate.common is None:
        return NOT_APPLICABLE
    low, high = estimate.common
    return f"{_three_digits(low)}–{_three_digits(high)}"  # noqa: RUF001


def _three_digits(value: float) -> str:
    """At least three significant digits, none after the point that are not needed for that."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
