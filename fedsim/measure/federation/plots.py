"""Accuracy over rounds and bytes of rounds, and who holds what, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from fedsim.federated.site import Site
from fedsim.measure.federation.schema import Federation, FederationRow
from fedsim.measure.federation.styles import (
    COLOURS,
    DPI,
    KINDS,
    colours_of,
    legend,
    line,
    panel,
    styles_of,
    written,
)

__all__ = ["federation_figure", "holdings", "partition_figure", "plot_federation", "plot_partition"]

_LARGEST_DOT = 220.0  # square points
_MOST_NAMED = 24  # classes or clients that all get a number of their own on an axis
_MOST_PANELS = 3  # of accuracies


def plot_federation(federation: Federation, name: str, path: Path) -> None:
    """Write accuracy over rounds and bytes of rounds, of all methods, as a PNG, whole or not at all."""
    written(federation_figure(federation, name), path)


def plot_partition(site: Site, name: str, path: Path) -> None:
    """Write who holds what as a PNG, whole or not at all."""
    written(partition_figure(site, name), path)


def federation_figure(federation: Federation, name: str) -> Figure:
    """The picture itself: a panel for each of the first three kinds of accuracy, and one for payload bytes.

    A method has one colour everywhere; the style of a line is that of the predictor, or in the last panel
    of the direction. What sends nothing is named there.
    """
    found = {
        (one.classes, one.test)
        for row in federation.rows
        for each in row.rounds
        for one in each.accuracy
        if one.accuracy is not None
    }
    kinds = [kind for kind in KINDS if kind in found][:_MOST_PANELS]
    lines, columns = (2, 2) if len(kinds) == _MOST_PANELS else (1, 1 + len(kinds))
    figure = Figure(figsize=(5.2 * columns, 0.2 + 3.5 * lines), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(name)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    colours, styles = colours_of(federation), styles_of(federation)
    for kind in kinds:
        _accuracy_panel(next(panels), federation.rows, kind, colours, styles)
    _byte_panel(next(panels), federation.rows, colours)
    legend(figure, colours, styles)
    return figure


def partition_figure(site: Site, name: str) -> Figure:
    """The picture itself: classes to the right, clients upwards, the area of a dot is samples.

    What clients train on, in all rounds together; and as rings what they keep for their own tests.
    """
    train, test = holdings(site)
    clients, classes = train.shape
    size = (min(20.0, 2.4 + 0.32 * classes), min(20.0, 1.8 + 0.32 * clients))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = max(1, int(train.max()), int(test.max()))
    largest = _LARGEST_DOT * min(1.0, (_MOST_NAMED / max(clients, classes)) ** 2)
    for counts, colour, filled in ((train, COLOURS[0], True), (test, COLOURS[1], False)):
        rows, columns = np.nonzero(counts)
        axes.scatter(
            columns,
            rows,
            s=largest * counts[rows, columns] / most,
            facecolors=colour if filled else "none",
            edgecolors="none" if filled else colour,
            linewidths=0.8,
        )
    held = f"{int(train.sum())} samples to train on"
    held += f", {int(test.sum())} for own tests (rings)" if test.any() else ""
    axes.set_title(f"{name}\n{held}\nthe largest dot: {most}", fontsize="small")
    axes.set_xlabel("class")
    axes.set_ylabel("client")
    for axis, count in ((axes.xaxis, classes), (axes.yaxis, clients)):
        if count <= _MOST_NAMED:
            axis.set_ticks(range(count))
        else:
            axis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.7, classes - 0.3)
    axes.set_ylim(-0.7, clients - 0.3)
    panel(axes)
    return figure


def holdings(site: Site) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples of each class that each client trains on, and tests with, int64 [clients, classes]."""
    labels, classes = site.dataset.y_train, site.classes
    parts = [(share.seen(len(share.rounds)), share.test) for share in site.shares]
    train, test = (
        np.stack([np.bincount(labels[part[which]], minlength=classes) for part in parts]) for which in (0, 1)
    )
    return train.astype(np.int64), test.astype(np.int64)


def _accuracy_panel(
    axes: Axes,
    rows: Sequence[FederationRow],
    kind: tuple[str, str],
    colours: dict[str, str],
    styles: dict[str, str],
) -> None:
    for row in rows:
        for predictor, style in styles.items():
            points = [
                (each.round, one.accuracy)
                for each in row.rounds
                for one in each.accuracy
                if (one.predictor, one.classes, one.test) == (predictor, *kind) and one.accuracy is not None
            ]
            if points:
                line(axes, points, style, colours[row.method])
    classes, test = kind
    axes.set_title(f"{classes} classes, {test} test", fontsize="medium")
    axes.set_ylabel("accuracy, %")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    _rounds(axes)


def _byte_panel(axes: Axes, rows: Sequence[FederationRow], colours: dict[str, str]) -> None:
    silent, drawn = [], False
    for row in rows:
        counted = [(each.round, each.bytes) for each in row.rounds if each.bytes is not None]
        up = [(number, one.up.payload_bytes) for number, one in counted if one.up.payload_bytes]
        down = [(number, one.down.payload_bytes) for number, one in counted if one.down.payload_bytes]
        for points, style, ring in ((up, "-", False), (down, "--", True)):
            if points:
                line(axes, points, style, colours[row.method], ring=ring)
                drawn = True
        if counted and not up and not down:
            silent.append(row.method)
    axes.set_title("payload of a round, all clients (solid: up, dashed: down)", fontsize="medium")
    axes.set_ylabel("bytes (logarithmic)")
    if drawn:
        axes.set_yscale("log")
    _rounds(axes)
    said = f"{', '.join(silent)}: nothing is sent" if silent else "" if drawn else "not counted"
    axes.text(0.98, 0.03, said, transform=axes.transAxes, ha="right", va="bottom", fontsize="small")


def _rounds(axes: Axes) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel(axes)
