"""Accuracy against what it cost on the links and devices of the fleet, as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fedsim.measure.federation.cost_schema import RoundCost
from fedsim.measure.federation.schema import Federation
from fedsim.measure.federation.styles import DPI, KINDS, colours_of, legend, line, panel, styles_of, written

__all__ = ["cost_figure", "plot_cost"]


def plot_cost(federation: Federation, name: str, path: Path) -> None:
    """Write accuracy against virtual time and joules, of all methods, as a PNG, whole or not at all."""
    written(cost_figure(federation, name), path)


def cost_figure(federation: Federation, name: str) -> Figure:
    """The picture itself: a panel for time, and one for joules where those are known of any method.

    Both are of the kind of accuracy that tells most: among all classes on the global test set, where there is
    such. A dot is a round that was evaluated.
    """
    found = {
        (one.classes, one.test)
        for row in federation.rows
        for each in row.rounds
        for one in each.accuracy
        if one.accuracy is not None
    }
    kind = next((kind for kind in KINDS if kind in found), KINDS[0])
    costs = [row.cost for row in federation.rows if row.cost is not None]
    known = any(cost.joules.total is not None for cost in costs)
    figure = Figure(figsize=(5.2 * (1 + known), 3.7), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(name)
    panels = figure.subplots(1, 1 + known, squeeze=False)[0]
    colours, styles = colours_of(federation), styles_of(federation)
    _panel(panels[0], federation, kind, lambda one: one.end_s, "time on the links, s (logarithmic)")
    if known:
        joules = "joules of all devices (logarithmic)"
        _panel(panels[1], federation, kind, lambda one: one.joules_so_far, joules)
    legend(figure, colours, styles)
    return figure


def _panel(
    axes: Axes,
    federation: Federation,
    kind: tuple[str, str],
    spent: Callable[[RoundCost], float | None],
    label: str,
) -> None:
    colours = colours_of(federation)
    for row in federation.rows:
        if row.cost is None:
            continue
        for predictor, style in styles_of(federation).items():
            points = [
                (cost, one.accuracy)
                for each, priced in zip(row.rounds, row.cost.rounds, strict=True)
                for one in each.accuracy
                if (one.predictor, one.classes, one.test) == (predictor, *kind)
                and one.accuracy is not None
                and (cost := spent(priced))
            ]
            if points:
                line(axes, points, style, colours[row.method])
    classes, test = kind
    axes.set_title(f"{classes} classes, {test} test", fontsize="medium")
    axes.set_ylabel("accuracy, %")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    axes.set_xlabel(label)
    if axes.get_lines():
        axes.set_xscale("log")
    panel(axes)
