"""The grids of a sweep: what is set at each point, and what the points are called.

::

    {model.bottleneck: {name: bottlefit}, model.bottleneck.channels: [1, 2]}     one grid
      -> {model.bottleneck: {name: bottlefit}, model.bottleneck.channels: 1}     its points
      -> {model.bottleneck: {name: bottlefit}, model.bottleneck.channels: 2}

Works on plain values; what a key means is the scenario's business.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsim.scenario_source import Document, lookup, with_value

__all__ = [
    "BOTTLENECK",
    "SWEPT_SECTIONS",
    "Grid",
    "Setting",
    "SweptPoint",
    "apply",
    "as_grids",
    "is_swept",
    "naming",
    "settings",
    "size",
]

Grid = Mapping[str, Sequence[Any]]
Setting = dict[str, Any]

#: The section whose name begins the label of every point.
BOTTLENECK = "model.bottleneck"
#: Sections in which a sweep may change a key: they decide which model is trained, and nothing else.
SWEPT_SECTIONS = ("model", "training")


@dataclass(frozen=True)
class SweptPoint:
    """A point of a sweep: where it comes from, what was set, and the document with it set."""

    grid: int
    setting: Setting
    document: Document


def as_grids(value: Any) -> Any:
    """A sweep in its full form, a list of grids of lists, as far as ``value`` can be read as one.

    A mapping is the one grid; what is no list is the one value of its key; null is no sweep.
    """
    grids = [] if value is None or value == {} else [value] if isinstance(value, Mapping) else value
    if not isinstance(grids, list | tuple):
        raise ValueError("has to be a mapping of keys to lists of values, or a list of such mappings")
    return [_full(grid) if isinstance(grid, Mapping) else grid for grid in grids]


def _full(grid: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, list | tuple) else [value] for key, value in grid.items()}


def is_swept(key: str) -> bool:
    """Whether a sweep may have this key."""
    section, dot, rest = key.partition(".")
    return section in SWEPT_SECTIONS and bool(dot and rest)


def size(grids: Sequence[Grid]) -> int:
    """The number of points of all grids together."""
    return sum(math.prod(len(values) for values in grid.values()) for grid in grids)


def settings(grids: Sequence[Grid]) -> Iterator[tuple[int, Setting]]:
    """What is set at each point, with the number of its grid; in a grid the last key is the fastest."""
    for number, grid in enumerate(grids):
        for values in itertools.product(*grid.values()):
            yield number, dict(zip(grid, values, strict=True))


def apply(document: Document, setting: Mapping[str, Any]) -> Document:
    """The document with everything set: sections first, then the keys within them.

    Raises:
        SourceError: a key that leads through something that is neither mapping nor list.
    """
    for key in sorted(setting, key=lambda key: key.count(".")):
        document = with_value(document, key, setting[key])
    return document


def naming(points: Sequence[SweptPoint], grids: Sequence[Grid]) -> list[Setting]:
    """For each point the keys and values that name it, beside the name of its bottleneck.

    They are what varies in its grid. Where two points would be called the same, the first keys in which
    they differ come in.
    """
    found = [_varied(point, grids[point.grid]) if grids else {} for point in points]
    candidates = _candidates(grids)
    while clashes := _clashes(points, found):
        grown = False
        for clash in clashes:
            key = _telling(clash, points, found, candidates)
            if key is None:
                continue
            grown = True
            for index in clash:
                if (value := lookup(points[index].document, key)) is not None:
                    found[index][key] = value
        if not grown:
            break
    return found


def _varied(point: SweptPoint, grid: Grid) -> Setting:
    return {
        key: value
        for key, value in point.setting.items()
        if len(grid[key]) > 1
        and key != f"{BOTTLENECK}.name"  # stands there already
        and not (key == BOTTLENECK and isinstance(value, Mapping))
    }


def _candidates(grids: Sequence[Grid]) -> list[str]:
    """Every key that some grid sets, those within a bottleneck one by one."""
    keys: dict[str, None] = {}
    for grid in grids:
        for key, values in grid.items():
            if key == BOTTLENECK:
                options = [option for v in values if isinstance(v, Mapping) for option in v]
                keys |= {f"{key}.{option}": None for option in options if option != "name"}
            else:
                keys[key] = None
    return list(keys)


def _clashes(points: Sequence[SweptPoint], found: Sequence[Setting]) -> list[list[int]]:
    """Groups of points that the settings found so far do not tell apart."""
    groups: dict[str, list[int]] = {}
    for index, (point, setting) in enumerate(zip(points, found, strict=True)):
        words = [lookup(point.document, f"{BOTTLENECK}.name")]
        words += [(key.rpartition(".")[2], value) for key, value in setting.items()]
        groups.setdefault(json.dumps(words, default=str), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _telling(
    clash: Sequence[int], points: Sequence[SweptPoint], found: Sequence[Setting], candidates: Sequence[str]
) -> str | None:
    """The first key that is not yet in use and in which the points differ."""
    for key in candidates:
        values = {index: lookup(points[index].document, key) for index in clash}
        fresh = any(value is not None and key not in found[index] for index, value in values.items())
        if fresh and len({json.dumps(value, default=str) for value in values.values()}) > 1:
            return key
    return None
