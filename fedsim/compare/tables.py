"""A comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedsim.compare.figures import (
    FIGURES,
    Carried,
    Comparison,
    Figure,
    Joules,
    MethodComparison,
    Size,
    Spread,
    Timing,
)
from fedsim.measure.blocks import NOT_APPLICABLE, Block, print_tables, spread

__all__ = ["print_comparison"]

_SAMPLE_BY_SAMPLE = ("ideal", "payload", "frame")
_ON_THE_NETWORK = {"wire": "wire, B", "reply": "wire of\nreplies, B", "stream": "stream, B"}
_SIDES = "predicted /\nmeasured"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the stages of each method, then bytes and energy, then all methods at a glance, then the notes.

    An error is grey where it is slight, and green where it lies within the noise of what was measured.
    Nothing is cut off: columns that do not fit the console's width become tables of their own.
    """
    for one in comparison.methods:
        if one.timings:
            print_tables(_stage_tables(one, console.width), console)
    for make in (_byte_tables, _energy_tables, _overview):
        print_tables(make(comparison.methods, console.width), console)
    for note in comparison.notes:
        console.print(f"Note: {note}.", markup=False, highlight=False, soft_wrap=True)


def _stage_tables(one: MethodComparison, width: int) -> list[Table]:
    """One row for each stage."""
    timings = list(one.timings.values())
    blocks = [
        Block(
            "latency in ms",
            [
                (f"predicted\n{' / '.join(FIGURES)}", [_spread(timing.simulated) for timing in timings]),
                (f"measured\n{' / '.join(FIGURES)}", [_spread(timing.measured) for timing in timings]),
            ],
        ),
        Block("error", [("mean\noff by, ms", [_difference(timing) for timing in timings])]),
        *(
            Block("error", [(f"{figure}: error,\n% (95 %)", [_error(timing, figure) for timing in timings])])
            for figure in FIGURES
        ),
    ]
    return spread(escape(one.method), "stage", [timing.stage for timing in timings], blocks, width)


def _overview(methods: Sequence[MethodComparison], width: int) -> list[Table]:
    """One row for each method: its total latency, and what was told."""
    timings = [one.timings.get("total") for one in methods]
    figures: tuple[Figure, ...] = ("mean", "p95")
    blocks = [
        Block(
            "total latency",
            [
                (f"{figure}, ms:\n{_SIDES}", [_both(timing, figure) for timing in timings]),
                ("error,\n% (95 %)", [_error(timing, figure) for timing in timings]),
            ],
        )
        for figure in figures
    ]
    blocks += [
        Block("predictions", [("told alike,\nof", [_alike(one) for one in methods])]),
        Block("accuracy", [(f"accuracy, %:\n{_SIDES}", [_accuracy(one) for one in methods])]),
    ]
    return spread("prediction against measurement", "method", _names(methods), blocks, width)


def _byte_tables(methods: Sequence[MethodComparison], width: int) -> list[Table]:
    """One row for each method that sends."""
    rows = [one for one in methods if one.sizes or one.carried]
    if not rows:
        return []
    blocks = [
        Block(
            "bytes of a sample",
            [
                (f"{level}, B:\n{_SIDES}", [_means(one.sizes.get(level)) for one in rows]),
                (f"{level}\nequal, of", [_equal(one.sizes.get(level)) for one in rows]),
            ],
        )
        for level in _SAMPLE_BY_SAMPLE
        if any(level in one.sizes for one in rows)
    ]
    blocks += [
        Block(
            "bytes on the network",
            [(f"{title}:\n{_SIDES}", [_means(one.carried.get(level)) for one in rows])],
        )
        for level, title in _ON_THE_NETWORK.items()
        if any(level in one.carried for one in rows)
    ]
    return spread("prediction against measurement", "method", _names(rows), blocks, width)


def _energy_tables(methods: Sequence[MethodComparison], width: int) -> list[Table]:
    """One row for each method whose energy is known in both runs."""
    rows = [one for one in methods if one.joules]
    stages = dict.fromkeys(stage for one in rows for stage in one.joules)
    blocks = [
        Block(
            "energy on the device in mJ a sample, and its error",
            [
                (f"{stage}:\n{_SIDES}", [_energy(one.joules.get(stage)) for one in rows]),
                ("error,\n%", [_energy_error(one.joules.get(stage)) for one in rows]),
            ],
        )
        for stage in stages
    ]
    return spread("prediction against measurement", "method", _names(rows), blocks, width) if rows else []


def _names(methods: Sequence[MethodComparison]) -> list[str]:
    return [escape(one.method) for one in methods]


def _spread(values: Spread) -> str:
    return " / ".join(_three_digits(getattr(values, figure)) for figure in FIGURES)


def _both(timing: Timing | None, figure: Figure) -> str:
    if timing is None:
        return NOT_APPLICABLE
    return " / ".join(_three_digits(getattr(one, figure)) for one in (timing.simulated, timing.measured))


def _difference(timing: Timing) -> str:
    off = timing.simulated.mean - timing.measured.mean
    return f"{'-' if off < 0 else '+'}{_three_digits(abs(off))}"


def _error(timing: Timing | None, figure: Figure) -> str:
    if timing is None or (error := timing.error(figure)) is None:
        return NOT_APPLICABLE
    interval = timing.error_interval(figure)
    text = _percent(error) + ("" if interval is None else f" ({' to '.join(map(_percent, interval))})")
    style = "dim" if timing.slight else "green" if timing.within_noise(figure) else ""
    return f"[{style}]{text}[/]" if style else text


def _means(pair: Size | Carried | None) -> str:
    if pair is None:
        return NOT_APPLICABLE
    known = (NOT_APPLICABLE if one is None else f"{one:.1f}" for one in (pair.simulated, pair.measured))
    return " / ".join(known)


def _equal(size: Size | None) -> str:
    if size is None:
        return NOT_APPLICABLE
    off = "" if size.equal == size.samples else f", off by up to {_three_digits(size.largest)} B"
    return f"{size.equal} of {size.samples}{off}"


def _energy(energy: Joules | None) -> str:
    if energy is None:
        return NOT_APPLICABLE
    return " / ".join(_three_digits(1e3 * one) for one in (energy.simulated, energy.measured))


def _energy_error(energy: Joules | None) -> str:
    return NOT_APPLICABLE if energy is None or energy.error is None else _percent(energy.error)


def _alike(one: MethodComparison) -> str:
    return f"{one.answers.alike} of {one.answers.predicted}" if one.answers.predicted else NOT_APPLICABLE


def _accuracy(one: MethodComparison) -> str:
    pair = one.answers.simulated_accuracy, one.answers.measured_accuracy
    return " / ".join(NOT_APPLICABLE if share is None else f"{100 * share:.1f}" for share in pair)


def _percent(share: float) -> str:
    percent = round(100 * share, 1) + 0.0  # no -0.0
    return f"{percent:+.1f}" if abs(percent) < 100 else f"{percent:+.0f}"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    digits = 4 if abs(value) < 0.0995 else 3 if abs(value) < 0.995 else 2 if abs(value) < 9.995 else 1
    return f"{value:.{digits}f}" if abs(value) < 99.95 else f"{value:.0f}"
