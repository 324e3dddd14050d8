"""What the pictures of federations have in common: colours, lines, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedsim.measure.federation.schema import Federation
from fedsim.measure.files import replacing

__all__ = ["COLOURS", "DPI", "GRID", "KINDS", "colours_of", "legend", "line", "panel", "styles_of", "written"]

#: Okabe and Ito's colours, which people with the common colour deficiencies tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#404040")
#: Classes and tests that an accuracy may be about, the most telling first.
KINDS = (("all", "global"), ("all", "personal"), ("own", "personal"), ("own", "global"))
GRID = "#e4e4e4"
DPI = 150
_STYLES = ("-", "--", ":", "-.")
_MOST_MARKED = 30  # points of a line that are marked each


def colours_of(federation: Federation) -> dict[str, str]:
    """The colour of each method, the same in every picture."""
    return dict(zip((row.method for row in federation.rows), cycle(COLOURS), strict=False))


def styles_of(federation: Federation) -> dict[str, str]:
    """The line of each predictor."""
    predictors = dict.fromkeys(one.predictor for row in federation.rows for one in row.accuracy)
    return dict(zip(predictors, cycle(_STYLES), strict=False))


def legend(figure: Figure, colours: Mapping[str, str], styles: Mapping[str, str]) -> None:
    """Which colour is which method, and which line which predictor, below the panels."""
    handles = [Line2D([], [], color=colour, label=method) for method, colour in colours.items()]
    handles += [Line2D([], [], color="#404040", ls=style, label=p) for p, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles)), frameon=False)


def line(
    axes: Axes, points: Sequence[tuple[float, float]], style: str, colour: str, *, ring: bool = False
) -> None:
    """A line through points; those of rings are seen around the dots of another line that is the same."""
    marker = ("o" if ring else ".") if len(points) < _MOST_MARKED else ""
    x, y = zip(*points, strict=True)
    (drawn,) = axes.plot(x, y, color=colour, linestyle=style, marker=marker, linewidth=1.3)
    if ring:
        drawn.set_markerfacecolor("none")


def panel(axes: Axes, hidden: Iterable[str] = ("top", "right")) -> None:
    """A light grid behind the lines, and no frame where there is nothing to read off."""
    axes.grid(which="major", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[[*hidden]].set_visible(False)


def written(figure: Figure, path: Path) -> None:
    """Write a picture as a PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
