"""A comparison as a picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fedsim.compare.figures import Comparison, MethodComparison, Timing
from fedsim.compare.ledger import Floats

__all__ = ["comparison_figure"]

_DPI = 150
_WIDTH_INCHES = 10.0
_ROW_INCHES = 2.7
_HEAD_INCHES = 0.7
#: Of Okabe and Ito's colours; the prediction is dashed besides, and its bars are hatched.
_PREDICTED, _MEASURED = "#0072B2", "#D55E00"
_STEPS = 2000  # of a line; a longer distribution is drawn through so many of its quantiles
_SHOWN = 99.5  # percentile at which the axis ends: a single straggler would press the rest together
_BAR = 0.38


def comparison_figure(comparison: Comparison) -> Figure:
    """One row for each method that has latencies.

    On the left the share of samples whose total latency is at most so long, predicted and measured; on the
    right the means of the stages, with 95 % intervals of what was measured.
    """
    methods = [one for one in comparison.methods if "total" in one.timings]
    figure = Figure(
        figsize=(_WIDTH_INCHES, _HEAD_INCHES + _ROW_INCHES * len(methods)), dpi=_DPI, layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(methods), 2, squeeze=False, width_ratios=(1.15, 1))
    for one, (left, right) in zip(methods, grid, strict=True):
        _draw_distributions(left, one)
        _draw_stages(right, one.timings)
    for axes, label in zip(grid[-1], ("total latency, ms", "mean latency, ms (bars: 95 %)"), strict=True):
        axes.set_xlabel(label)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw_distributions(axes: Axes, one: MethodComparison) -> None:
    """Empirical distribution functions of the total latency."""
    simulated, measured = one.totals_ms
    _draw_steps(axes, measured, _MEASURED, "-", "measured")
    _draw_steps(axes, simulated, _PREDICTED, "--", "predicted")
    axes.set_title(one.method.replace("$", r"\$"), loc="left", fontsize="medium")
    end = max(float(np.percentile(values, _SHOWN)) for values in one.totals_ms)
    begin = min(float(values[0]) for values in one.totals_ms)
    room = 0.03 * (end - begin) or 0.03 * end or 1.0
    axes.set_xlim(max(0.0, begin - room), end + room)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    axes.set_ylabel("samples, %")
    errors = [(figure, one.timings["total"].error(figure)) for figure in ("mean", "p95")]
    text = "\n".join(
        f"error of {figure}: {100 * error:+.1f} %" for figure, error in errors if error is not None
    )
    axes.text(0.97, 0.08, text, transform=axes.transAxes, ha="right", va="bottom", fontsize="small")
    _clean(axes)
    axes.grid(color="#e4e4e4", linewidth=0.6)


def _draw_steps(axes: Axes, values: Floats, colour: str, line: str, label: str) -> None:
    n = len(values)
    ranks = np.arange(1, n + 1) if n <= _STEPS else np.unique(np.linspace(1, n, _STEPS).astype(np.int64))
    x, y = values[ranks - 1], ranks / n
    axes.step(
        np.concatenate([x[:1], x]),
        np.concatenate([[0.0], y]),
        where="post",
        color=colour,
        linestyle=line,
        linewidth=1.5,
        label=label,
    )


def _draw_stages(axes: Axes, timings: Mapping[str, Timing]) -> None:
    """Means of the stages side by side, from top to bottom in the order in which they happen."""
    places = np.arange(len(timings))
    simulated = [timing.simulated.mean for timing in timings.values()]
    measured = [timing.measured.mean for timing in timings.values()]
    ends = [timing.intervals.get("mean", (timing.measured.mean,) * 2) for timing in timings.values()]
    axes.barh(
        places - _BAR / 2,
        simulated,
        _BAR,
        color="white",
        edgecolor=_PREDICTED,
        hatch="/////",
        linewidth=0.8,
    )
    axes.barh(
        places + _BAR / 2,
        measured,
        _BAR,
        color=_MEASURED,
        edgecolor=_MEASURED,
        linewidth=0.8,
        xerr=(
            [max(0.0, mean - low) for mean, (low, _) in zip(measured, ends, strict=True)],
            [max(0.0, high - mean) for mean, (_, high) in zip(measured, ends, strict=True)],
        ),
        error_kw={"elinewidth": 0.8, "capsize": 1.5},
    )
    axes.set_yticks(places, list(timings), fontsize="small")
    axes.invert_yaxis()
    _clean(axes)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)


def _clean(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
