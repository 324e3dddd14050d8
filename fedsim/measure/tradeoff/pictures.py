"""The figures of a sweep as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter, ScalarFormatter

from fedsim.measure.blocks import engineering
from fedsim.measure.labels import PointLabel, place_labels
from fedsim.measure.tradeoff.figures import LabelFigures, Tradeoff
from fedsim.measure.tradeoff.styles import UNCUT_COLOUR, Style, styles

__all__ = ["compute_figure", "curves_figure"]

_DPI = 150
_SIZE_INCHES = (10.0, 6.8)
#: Between a curve and others, so that a name beside it is read as its own.
_ROOM_PT = 18.0
_NOTHING_SENT = "no method sends anything"
_ACCURACY_COLOURS = "cividis"  # legible with the common colour deficiencies, and in grey


def curves_figure(tradeoff: Tradeoff) -> Figure:
    """Accuracy against mean payload bytes (logarithmic): every family a curve, with its intervals.

    A curve runs through the labels that no other of its family beats; the others are faint. Hollow
    markers stand where a payload would be without its constant part. The uncut network is dashed.
    """
    figure, axes = _canvas()
    looks = styles(tradeoff)
    sent = [one for one in tradeoff.labels if not one.local and one.payload_bytes > 0]
    local = [one for one in tradeoff.labels if one.local]
    handles = []
    for one in local:
        handles.append(axes.axhline(one.accuracy, color=UNCUT_COLOUR, linestyle="--", linewidth=1))
        handles[-1].set_label(f"{one.label}: uncut, sends nothing")
    for family, style in looks.items():
        handles += _draw_curve(axes, family, [one for one in sent if one.family == family], style)
    hollow = [one for one in sent if one.constant_bytes > 0 and one.content_bytes > 0]
    if hollow:
        handles.append(_hollow_handle())

    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    over = {"seeds": "95 % over seeds", "test set": "Wilson 95 % of the test set"}
    axes.set_ylabel(
        f"accuracy, % (bars: {', '.join(dict.fromkeys(over[x.interval_over] for x in tradeoff.labels))})"
    )
    _bytes_axis(axes, [one.payload_bytes for one in sent] + [one.content_bytes for one in hollow])
    _accuracy_axis(axes, [*sent, *local])
    _legend(figure, handles)
    strokes = [[(one.content_bytes, one.accuracy), (one.payload_bytes, one.accuracy)] for one in hollow]
    for family in looks:
        mine = [one for one in sent if one.family == family and one.on_curve]
        strokes.append([(one.payload_bytes, one.accuracy) for one in mine])
    strokes += [[(axes.get_xlim()[0], one.accuracy), (axes.get_xlim()[1], one.accuracy)] for one in local]
    positions = {one.label: (one.payload_bytes, one.accuracy) for one in sent}
    hidden = [(one.content_bytes, one.accuracy) for one in hollow]
    _label_families(figure, axes, sent, looks, positions, strokes, hidden, _ROOM_PT)
    return figure


def compute_figure(tradeoff: Tradeoff) -> Figure:
    """Head MACs (logarithmic, with a place for 0) against mean payload bytes, accuracy as colour.

    A ring marks what lies on the Pareto front of bytes, accuracy and head MACs. The uncut network,
    which computes everything on the device, is dashed.
    """
    figure, axes = _canvas()
    looks = styles(tradeoff)
    sent = [one for one in tradeoff.labels if not one.local and one.payload_bytes > 0]
    local = [one for one in tradeoff.labels if one.local]
    _macs_axis(axes, [one.head_macs for one in [*sent, *local]])
    handles = []
    for one in local:
        handles.append(axes.axhline(one.head_macs, color=UNCUT_COLOUR, linestyle="--", linewidth=1))
        handles[-1].set_label(f"{one.label}: uncut, {100 * one.accuracy:.1f} %")
    accuracies = [one.accuracy for one in sent]
    scale = Normalize(min(accuracies, default=0.0), max(accuracies, default=1.0))
    colours = ScalarMappable(scale, _ACCURACY_COLOURS)
    for family, style in looks.items():
        for one in (one for one in sent if one.family == family):
            _draw_cost(axes, one, style, colormaps[_ACCURACY_COLOURS](scale(one.accuracy)))
        handles.append(_marker(style, family, "#606060"))
    if any(one.front_with_macs for one in sent):
        handles.append(_ring_handle())
    axes.set_ylabel("compute on the device, MACs a sample (head and encoder)")
    _bytes_axis(axes, [one.payload_bytes for one in sent])
    _legend(figure, handles)
    if sent:
        bar = figure.colorbar(
            colours, ax=axes, pad=0.02, aspect=30, format=PercentFormatter(xmax=1.0, symbol="")
        )
        bar.set_label("accuracy, %")
        bar.outline.set_visible(False)
    positions = {one.label: (one.payload_bytes, float(one.head_macs)) for one in sent}
    grey = {name: Style("#303030", look.marker, look.line, look.learned) for name, look in looks.items()}
    _label_families(figure, axes, sent, grey, positions, [], [])
    return figure


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(which="major", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_curve(axes: Axes, family: str, labels: Sequence[LabelFigures], style: Style) -> list[Line2D]:
    """A family's points, bars and line; its entry of the legend."""
    if not labels:
        return []
    curve = [one for one in labels if one.on_curve]
    axes.plot(
        [one.payload_bytes for one in curve],
        [one.accuracy for one in curve],
        color=style.colour,
        linestyle=style.line,
        linewidth=1.5 if style.learned else 1.1,
        zorder=3,
    )
    for one in labels:
        alpha = 1.0 if one.on_curve else 0.4
        low, high = one.accuracy_interval
        axes.plot(
            [one.payload_bytes] * 2,
            [low, high],
            color=style.colour,
            linewidth=0.8,
            alpha=0.6 * alpha,
            zorder=2,
        )
        if one.payload_interval is not None:
            left, right = one.payload_interval
            left = max(left, one.payload_bytes / 100)
            axes.plot(
                [left, right],
                [one.accuracy] * 2,
                color=style.colour,
                linewidth=0.8,
                alpha=0.6 * alpha,
                zorder=2,
            )
        axes.plot(one.payload_bytes, one.accuracy, **_look(style), alpha=alpha, zorder=4)
        if one.constant_bytes > 0 and one.content_bytes > 0:
            axes.plot(
                one.content_bytes,
                one.accuracy,
                marker="o",
                markersize=4.5,
                markerfacecolor="white",
                markeredgecolor=style.colour,
                markeredgewidth=0.9,
                alpha=alpha,
                zorder=4,
            )
            axes.plot(
                [one.content_bytes, one.payload_bytes],
                [one.accuracy] * 2,
                color=style.colour,
                linewidth=0.4,
                zorder=1,
            )
    return [_marker(style, family, style.colour, line=len(curve) > 1)]


def _draw_cost(
    axes: Axes, one: LabelFigures, style: Style, colour: tuple[float, float, float, float]
) -> None:
    look = _look(style) | {"markersize": 8, "markeredgecolor": "#202020", "markeredgewidth": 0.6}
    if not style.learned:
        outline = withStroke(linewidth=3.6, foreground="#202020")
        look |= {"markeredgecolor": colour, "markeredgewidth": 2.0, "path_effects": [outline]}
    axes.plot(one.payload_bytes, one.head_macs, **(look | {"color": colour}), zorder=3)
    if one.front_with_macs:
        axes.plot(one.payload_bytes, one.head_macs, **_ring(), zorder=2)


def _look(style: Style) -> dict[str, Any]:
    return {
        "color": style.colour,
        "marker": style.marker,
        "markersize": 5.5 if style.learned else 8,
        "markeredgewidth": 0.5 if style.learned else 1.6,
    }


def _ring() -> dict[str, Any]:
    return {
        "marker": "o",
        "markersize": 13,
        "markerfacecolor": "none",
        "markeredgecolor": "#D55E00",
        "markeredgewidth": 1.2,
        "linestyle": "none",
    }


def _marker(style: Style, text: str, colour: str, line: bool = False) -> Line2D:
    look = _look(style) | {"color": colour}
    look["linestyle"] = style.line if line else "none"
    return Line2D([], [], **look, label=text)


def _ring_handle() -> Line2D:
    return Line2D([], [], **_ring(), label="Pareto front of bytes,\naccuracy and MACs")


def _hollow_handle() -> Line2D:
    return Line2D(
        [], [], marker="o", markerfacecolor="white", color="#606060", linewidth=0.4, markersize=4.5,
        label="without the constant\npart of the payload",
    )  # fmt: skip


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    if handles:
        figure.legend(
            handles=handles,
            loc="outside right upper",
            frameon=False,
            fontsize="small",
            labelspacing=0.7,
            handlelength=3,
        )


def _bytes_axis(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xlabel("payload, bytes a sample (mean, logarithmic)")
    if not sizes:
        axes.set_xticks([])
        axes.text(0.5, 0.5, _NOTHING_SENT, transform=axes.transAxes, ha="center", va="center")
        return
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.4, max(sizes) * 1.4)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _accuracy_axis(axes: Axes, labels: Sequence[LabelFigures]) -> None:
    """Room for every mean, and for bars as far as they leave the means room: few seeds have long ones."""
    if not labels:
        return
    means = [one.accuracy for one in labels]
    low, high = min(means), max(means)
    room = max(0.5 * (high - low), 0.01)
    bottom = max(min(one.accuracy_interval[0] for one in labels), low - room)
    top = min(max(one.accuracy_interval[1] for one in labels), high + room)
    margin = 0.06 * (top - bottom)
    axes.set_ylim(bottom - margin, top + margin)


def _macs_axis(axes: Axes, macs: Sequence[int]) -> None:
    positive = [value for value in macs if value > 0]
    if not positive:
        axes.set_ylim(-1, 1)
        axes.set_yticks([0])
        return
    low, high = min(positive), max(positive)
    if 0 in macs:
        axes.set_yscale("symlog", linthresh=low / 1.3, linscale=0.2)
        axes.set_ylim(-low / 3, high * 1.8)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.8, high * 1.8)
    ticks = [m * 10.0**e for e in range(math.floor(math.log10(low)), 16) for m in (1, 2, 5)]
    shown = [tick for tick in ticks if low / 1.8 <= tick <= high * 1.8]
    axes.set_yticks(([0.0] if 0 in macs else []) + shown, minor=False)
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _: int | None = None) -> str:
    """20000000 as ``20 M``."""
    number, space, prefix = engineering(round(value)).partition(" ")
    return f"{float(number):g}{space}{prefix}"


def _label_families(
    figure: Figure,
    axes: Axes,
    labels: Sequence[LabelFigures],
    looks: Mapping[str, Style],
    positions: Mapping[str, tuple[float, float]],
    strokes: Sequence[Sequence[tuple[float, float]]],
    hidden: Sequence[tuple[float, float]],
    room_pt: float = 0.0,
) -> None:
    """Write each family's name beside the one of its points that stands furthest from other families.

    Where that is nearer than ``room_pt``, only the legend names it: a label amid other curves, led to
    its point by a line through them, would tell less.
    """
    for _ in range(2):  # the layout settles in the second pass; from then on no label may move it
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    pixels = {label: axes.transData.transform(at) for label, at in positions.items()}
    curves = {name: [pixels[one.label] for one in labels if one.family == name] for name in looks}
    names = []
    for family, style in looks.items():
        others = [curve for name, curve in curves.items() if name != family]
        mine = [one for one in labels if one.family == family]
        rooms = [(one.on_curve, _distance(pixels[one.label], others), i) for i, one in enumerate(mine)]
        if rooms and (best := max(rooms))[1] >= room_pt * figure.dpi / 72:
            names.append(PointLabel(*positions[mine[best[2]].label], family, style.colour))
    # Markers that carry no name must not be covered either: lines of no length, to the labels.
    dots = [[at, at] for at in [*positions.values(), *hidden]]
    place_labels(figure, axes, names, [*strokes, *dots])


def _distance(point: Any, curves: Sequence[Sequence[Any]]) -> float:
    """From a point to the nearest of some polylines, in pixels; sampled, which is near enough for labels."""
    nearest = math.inf
    for curve in curves:
        for one, other in [*pairwise(curve), *((at, at) for at in curve)]:
            for step in range(11):
                nearest = min(nearest, math.dist(point, one + (other - one) * step / 10))
    return nearest
