"""Placing the labels of points in a plot so that they cover neither each other nor the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

__all__ = ["PointLabel", "place_labels"]

#: Distances from a point's centre to the near edge of its label, in typographic points.
_DISTANCES_PT = (6.0, 12.0, 20.0, 30.0, 42.0)
#: A label this far away gets a thin line that leads to its point.
_LEADER_FROM_PT = 12.0
_DIRECTIONS = 16
_MARKER_PT = 7.0
_MARGIN_PT = 1.5
_LINE_STEPS = 40


@dataclass(frozen=True)
class PointLabel:
    """A text that belongs to the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def place_labels(
    figure: Figure, axes: Axes, labels: Sequence[PointLabel], lines: Sequence[Sequence[tuple[float, float]]]
) -> None:
    """Write each label beside its point, where it covers least.

    Greedy: the most crowded points choose first, each among positions around the point, near ones
    first. The layout has to be final: labels are placed in pixels.

    Args:
        figure: that the axes are in.
        axes: to write on.
        labels: one for each point.
        lines: polylines in data coordinates that labels should not cover: curves and error bars.
    """
    pixel = figure.dpi / 72.0
    frame = axes.get_window_extent()
    points = [_to_pixels(axes, label.x, label.y) for label in labels]
    markers = [_box(x, y, _MARKER_PT * pixel, _MARKER_PT * pixel) for x, y in points]
    dense = [p for line in lines for p in _dense([_to_pixels(axes, x, y) for x, y in line])]
    strokes = np.array(dense, dtype=np.float64).reshape(-1, 2)

    placed: list[Bbox] = []
    for index in sorted(range(len(labels)), key=lambda i: -_crowding(i, points)):
        label = labels[index]
        probe = axes.text(label.x, label.y, label.text, fontsize="small")
        extent = probe.get_window_extent()
        probe.remove()
        best_cost, best, best_distance = math.inf, extent, 0.0
        for distance in _DISTANCES_PT:
            for step in range(_DIRECTIONS):
                angle = 2 * math.pi * step / _DIRECTIONS
                box = _beside(points[index], extent, angle, distance * pixel).padded(_MARGIN_PT * pixel)
                cost = _cost(box, frame, placed, markers, strokes) + distance / 60
                # Between equals, above the point reads best.
                cost += 0.05 * (1 - math.sin(angle))
                if cost < best_cost:
                    best_cost, best, best_distance = cost, box, distance
        placed.append(best)
        _write(axes, label, best, leader=best_distance >= _LEADER_FROM_PT)


def _write(axes: Axes, label: PointLabel, box: Bbox, leader: bool) -> None:
    centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=centre,
        textcoords="figure pixels",
        ha="center",
        va="center",
        fontsize="small",
        color=label.colour,
        zorder=5,
        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
        if leader
        else None,
    )


def _to_pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    px, py = axes.transData.transform((x, y))
    return float(px), float(py)


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _beside(point: tuple[float, float], extent: Bbox, angle: float, distance: float) -> Bbox:
    """The box of a text of that extent which stands off the point in that direction."""
    cos, sin = math.cos(angle), math.sin(angle)
    (x, y), width, height = point, extent.width, extent.height
    return _box(x + cos * (distance + width / 2), y + sin * (distance + height / 2), width, height)


def _dense(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a polyline."""
    return [
        (x0 + (x1 - x0) * step / _LINE_STEPS, y0 + (y1 - y0) * step / _LINE_STEPS)
        for (x0, y0), (x1, y1) in pairwise(line)
        for step in range(_LINE_STEPS + 1)
    ]


def _crowding(index: int, points: Sequence[tuple[float, float]]) -> float:
    return sum((1 / (1 + math.dist(points[index], p)) for i, p in enumerate(points) if i != index), 0.0)


def _cost(
    box: Bbox,
    frame: Bbox,
    placed: Sequence[Bbox],
    markers: Sequence[Bbox],
    strokes: NDArray[np.float64],
) -> float:
    """How much a label there would hide: other labels count most, strokes least."""
    outside = box.x0 < frame.x0 + 2 or box.x1 > frame.x1 - 2 or box.y0 < frame.y0 + 2 or box.y1 > frame.y1 - 2
    cost: float = 100.0 if outside else 0.0
    cost += sum(20.0 for other in placed if box.overlaps(other))
    cost += sum(10.0 for other in markers if box.overlaps(other))
    x, y = strokes[:, 0], strokes[:, 1]
    covered = (box.x0 <= x) & (x <= box.x1) & (box.y0 <= y) & (y <= box.y1)
    cost += 0.3 * int(np.count_nonzero(covered))
    return cost
