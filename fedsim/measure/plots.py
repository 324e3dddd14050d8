"""Accuracy against bytes, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, ScalarFormatter

from fedsim.measure.files import replacing
from fedsim.measure.labels import PointLabel, place_labels
from fedsim.measure.schema import Row, Summary

__all__ = ["plot_tradeoff", "tradeoff_figure"]

#: Okabe and Ito's colours, which people with the common colour deficiencies tell apart.
_CURVE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_BASELINE_COLOUR = "#404040"
_UNCUT_COLOUR = "#707070"
_BASELINE_MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
_NOTHING_SENT = "no method has both an accuracy and a payload"
_DPI = 150
_SIZE_INCHES = (7.2, 4.8)


def plot_tradeoff(summary: Summary, path: Path) -> None:
    """Write accuracy against mean payload bytes (logarithmic) as a PNG, whole or not at all."""
    figure = tradeoff_figure(summary)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def tradeoff_figure(summary: Summary) -> Figure:
    """The picture itself.

    A learned bottleneck is a curve over its rates; every other way of sending is a labelled marker;
    networks that run whole on the device, and so send nothing, are dashed lines. Bars are Wilson 95 %
    intervals. Where no row has both an accuracy and payload bytes, the picture says so.
    """
    known = [row for row in summary.rows if row.accuracy is not None]
    sent = [row for row in known if row.payload_bytes is not None and row.payload_bytes.mean > 0]
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.suptitle(str(summary.scenario.get("name", "")))
    for row in known:
        if row.bottleneck is None:
            axes.axhline(
                _y(row),
                color=_UNCUT_COLOUR,
                linestyle="--",
                linewidth=1,
                label=f"{row.method} (sends nothing)",
            )

    labels: list[PointLabel] = []
    curves = _curves(sent)
    for (name, rows), colour in zip(curves.items(), cycle(_CURVE_COLOURS), strict=False):
        _draw(axes, rows, colour, "o-", f"{name} (numbers: rate)")
        labels += [PointLabel(_x(row), _y(row), _rate(row), colour) for row in rows]
    baselines = [row for row in sent if not row.learned]
    for row, marker in zip(baselines, cycle(_BASELINE_MARKERS), strict=False):
        _draw(axes, [row], _BASELINE_COLOUR, marker, None)
        labels.append(PointLabel(_x(row), _y(row), row.method, _BASELINE_COLOUR))

    _label_axes(axes)
    if sent:
        _scale(axes, [_x(row) for row in sent])
    else:
        axes.set_xticks([])
        axes.text(0.5, 0.5, _NOTHING_SENT, transform=axes.transAxes, ha="center", va="center")
    lines = [[(_x(row), _y(row)) for row in rows] for rows in curves.values()]
    lines += [[(_x(row), low), (_x(row), high)] for row in sent for low, high in [_bar(row)]]
    left, right = axes.get_xlim()
    lines += [[(left, _y(row)), (right, _y(row))] for row in known if row.bottleneck is None]
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize="small")
    for _ in range(2):  # the layout settles in the second pass; from then on no label may move it
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    place_labels(figure, axes, labels, lines)
    return figure


def _curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each learned bottleneck, by increasing size."""
    curves: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if row.learned), key=_x):
        curves.setdefault(row.bottleneck or row.method, []).append(row)
    return curves


def _draw(axes: Axes, rows: Sequence[Row], colour: str, style: str, label: str | None) -> None:
    y = [_y(row) for row in rows]
    bars = [_bar(row) for row in rows]
    axes.errorbar(
        [_x(row) for row in rows],
        y,
        yerr=(
            [v - low for v, (low, _) in zip(y, bars, strict=True)],
            [high - v for v, (_, high) in zip(y, bars, strict=True)],
        ),
        fmt=style,
        color=colour,
        markersize=5,
        linewidth=1.4,
        elinewidth=0.7,
        capsize=2,
        label=label,
        zorder=4 if label else 3,
    )


def _scale(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label_axes(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    axes.set_xlabel("payload, bytes a sample (mean, logarithmic)")
    axes.set_ylabel("accuracy, % (bars: Wilson 95 %)")
    axes.grid(which="major", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _x(row: Row) -> float:
    return row.payload_bytes.mean if row.payload_bytes is not None else 0.0


def _y(row: Row) -> float:
    return row.accuracy if row.accuracy is not None else 0.0


def _bar(row: Row) -> tuple[float, float]:
    return row.accuracy_interval or (_y(row), _y(row))


def _rate(row: Row) -> str:
    return row.method if row.rate is None else f"{row.rate:g}"
