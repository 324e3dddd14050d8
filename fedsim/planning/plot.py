"""A plan as a picture: accuracy against the cost that decides, with what the goal allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from fedsim.errors import OutputError
from fedsim.measure.files import replacing
from fedsim.measure.labels import PointLabel, place_labels
from fedsim.planning.answer import Answer
from fedsim.planning.front import on_front
from fedsim.planning.plan import Plan
from fedsim.planning.setting import QUANTITIES, Quantity, Setting

__all__ = ["plan_figure", "plot_plan", "shown_cost"]

_DPI = 150
_SIZE_INCHES = (8.4, 5.4)
#: Okabe and Ito's: people with the common colour deficiencies tell them apart.
_MEETS, _MISSES, _CHOSEN, _NOTHING = "#0072B2", "#8a8a8a", "#D55E00", "#707070"
_GOAL = "#009E73"
_LOG_FROM = 8.0  #: times the lowest cost: from there on the axis is logarithmic
_MOST_LABELS = 14


def plot_plan(found: Plan, path: Path) -> None:
    """Write the picture as a PNG, whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    figure = plan_figure(found)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)
    except OSError as error:
        raise OutputError(f"--plot {path}: cannot be written: {error.strerror or error}") from error


def shown_cost(answer: Answer) -> str:
    """The quantity of the horizontal axis: what the goal minimises, or else the first that it bounds."""
    named = [answer.goal.minimise, *answer.goal.objectives, *QUANTITIES]
    costs = [name for name in named if name not in (None, "error")]
    known = [
        name for name in costs if any(QUANTITIES[str(name)].read(one) is not None for one in answer.settings)
    ]
    return str(known[0])


def plan_figure(found: Plan) -> Figure:
    """The picture itself.

    Every setting of which the cost is known is a point with the 95 % interval of its accuracy: large on one
    of the fronts, small beside them; in colour where it meets the goal, grey where it does not; a diamond
    where it sends nothing. The line is the front of these two quantities alone, of what sends. Green is what
    the goal allows of them. A ring marks what is recommended, or what comes nearest. What costs nothing has
    no place on a logarithmic axis and is dashed.
    """
    answer = found.answer
    name = shown_cost(answer)
    quantity = QUANTITIES[name]
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(f"{found.name}: {answer.goal}", loc="left", fontsize="small", wrap=True)
    places = {one.name: (cost, one) for one in answer.settings if (cost := quantity.read(one)) is not None}
    drawn = [(cost, one) for cost, one in places.values() if cost > 0]
    free = [one for cost, one in places.values() if cost == 0]
    chosen = answer.recommended or answer.nearest
    for one in free:
        axes.axhline(
            one.accuracy,
            color=_CHOSEN if one is chosen else _NOTHING,
            linestyle="--",
            linewidth=1.2,
            label=f"{one.name}: {quantity.show(0)}",
        )
    for cost, one in drawn:
        _draw(axes, cost, one, answer)
    line = _front_line([(cost, one) for cost, one in drawn if not one.candidate.local])
    if len(line) > 1:
        axes.plot(
            *zip(*line, strict=True), color=_MEETS, linewidth=0.9, alpha=0.6, zorder=2, drawstyle="steps-post"
        )
    _scale(axes, [cost for cost, _ in drawn], answer.goal.bounds.get(name), name)
    _accuracy_axis(axes, answer)
    _shade(axes, answer, name)
    _legend(axes, answer)
    for _ in range(2):  # the layout settles in the second pass; from then on no label may move it
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    labels, strokes = [], [line] if len(line) > 1 else []
    strokes += [[(axes.get_xlim()[0], one.accuracy), (axes.get_xlim()[1], one.accuracy)] for one in free]
    for cost, one in drawn:
        strokes.append([(cost, one.accuracy_interval[0]), (cost, one.accuracy_interval[1])])
        if one is chosen or (one in answer.shown and len(answer.shown) <= _MOST_LABELS):
            labels.append(PointLabel(cost, one.accuracy, one.name, _colour(one, answer)))
    place_labels(figure, axes, labels, strokes)
    return figure


def _draw(axes: Axes, cost: float, one: Setting, answer: Answer) -> None:
    front, colour = one in answer.shown, _colour(one, answer)
    axes.plot(
        [cost] * 2, one.accuracy_interval, color=colour, linewidth=0.8, alpha=0.6 if front else 0.3, zorder=3
    )
    axes.plot(
        cost,
        one.accuracy,
        "D" if one.candidate.local else "o",
        color=colour,
        markersize=6 if front else 3.5,
        alpha=1 if front else 0.6,
        zorder=4,
    )
    if one is (answer.recommended or answer.nearest):
        axes.plot(
            cost, one.accuracy, "o", markersize=13, markerfacecolor="none", markeredgecolor=_CHOSEN,
            markeredgewidth=1.6, zorder=5,
        )  # fmt: skip


def _colour(one: Setting, answer: Answer) -> str:
    if one is (answer.recommended or answer.nearest):
        return _CHOSEN
    return _MEETS if one in answer.meeting else _MISSES


def _front_line(drawn: Sequence[tuple[float, Setting]]) -> list[tuple[float, float]]:
    """Corners of the front of cost and accuracy, by cost."""
    flags = on_front(np.array([[cost, -one.accuracy] for cost, one in drawn]).reshape(-1, 2))
    return sorted({(cost, one.accuracy) for (cost, one), flag in zip(drawn, flags, strict=True) if flag})


def _scale(axes: Axes, costs: Sequence[float], bound: float | None, name: str) -> None:
    quantity = QUANTITIES[name]
    axes.set_xlabel(f"{quantity.title} a sample (mean)" if "latency" not in name else quantity.title)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, quantity)))
    reach = [*costs, *([] if bound is None else [bound])]
    if not costs:
        axes.set_xticks([])
        return
    low, high = min(reach), max(reach)
    if high < _LOG_FROM * low:
        axes.set_xlim(0, 1.12 * high)
        return
    axes.set_xscale("log")
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, quantity)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _tick(value: float, quantity: Quantity) -> str:
    """``5 ms``, not ``5.00 ms``."""
    number, _, unit = quantity.show(value).partition(" ")
    return f"{float(number.replace(',', '')):g} {unit}"


def _accuracy_axis(axes: Axes, answer: Answer) -> None:
    """Room for every mean and for the goal, and for intervals as far as they leave the means room."""
    means = [one.accuracy for one in answer.settings]
    if "error" in answer.goal.bounds:
        means.append(1 - answer.goal.bounds["error"])
    low, high = min(means), max(means)
    room = max(0.25 * (high - low), 0.01)
    bottom = max(min(one.accuracy_interval[0] for one in answer.settings), low - room)
    top = min(max(one.accuracy_interval[1] for one in answer.settings), high + room)
    bottom, top = min(bottom, low), max(top, high)
    margin = max(0.06 * (top - bottom), 0.002)
    axes.set_ylim(bottom - margin, top + margin)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    axes.set_ylabel("accuracy, % (bars: 95 %)")
    axes.grid(which="major", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _shade(axes: Axes, answer: Answer, name: str) -> None:
    """What the goal allows of the two quantities; nothing where it bounds neither."""
    bounds = answer.goal.bounds
    if "error" not in bounds and name not in bounds:
        return
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    right, bottom = bounds.get(name, right), 1 - bounds.get("error", 1 - bottom)
    corner = (left, bottom)
    patch = Rectangle(corner, right - left, top - bottom, color=_GOAL, alpha=0.12, linewidth=0, zorder=0)
    patch.set_label("what the goal allows of the two")
    axes.add_patch(patch)


def _legend(axes: Axes, answer: Answer) -> None:
    what = "recommended" if answer.recommended is not None else "nearest to the goal"
    axes.plot([], [], "o", color=_CHOSEN, markersize=6, label=what)
    if answer.meeting:
        axes.plot([], [], "o", color=_MEETS, markersize=6, label="meets the goal")
    if len(answer.meeting) < len(answer.settings):
        axes.plot([], [], "o", color=_MISSES, markersize=6, label="does not meet the goal")
    axes.plot([], [], "o", color=_MISSES, markersize=3.5, alpha=0.6, label="small: on no front")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small")
