"""From the run folders of a sweep to the points of its trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge import bottlenecks
from edge.split import INPUT, OUTPUT
from fedsim.measure.schema import Row, Summary
from fedsim.measure.tradeoff import Point
from fedsim.run_folder import SUMMARY
from fedsim.sweep.units import Unit

__all__ = ["families_of", "points_of"]


def families_of(units: Sequence[Unit]) -> dict[str, str]:
    """The curve that each unit belongs to, by the units' names.

    A family is a bottleneck; where a sweep has several cuts, or several recipes for that bottleneck, each
    with its own.
    """
    swept = [unit.scenario for unit in units if unit.setting is not None]
    several_cuts = len({scenario.model.cut for scenario in swept}) > 1
    recipes: dict[str, set[str]] = {}
    for scenario in swept:
        recipes.setdefault(scenario.model.bottleneck.name, set()).add(scenario.training.recipe)
    found = {}
    for unit in units:
        if unit.setting is None:
            found[unit.name] = unit.scenario.baselines[0].name
            continue
        name = unit.scenario.model.bottleneck.name
        cut = f" at {unit.scenario.model.cut}" if several_cuts else ""
        recipe = len(recipes[name]) > 1 and bottlenecks.find(name).learned
        found[unit.name] = name + cut + (f" ({unit.scenario.training.recipe})" if recipe else "")
    return found


def points_of(units: Sequence[Unit], families: Mapping[str, str]) -> list[Point]:
    """A point for each row of finished units; those without labels, and so without accuracy, left out."""
    rows = [(unit, row) for unit in units for row in Summary.read(unit.folder / SUMMARY).rows]
    points = [_point(unit, row, families[unit.name]) for unit, row in rows]
    return [point for point in points if point is not None]


def _point(unit: Unit, row: Row, family: str) -> Point | None:
    local = row.bottleneck is None
    if row.accuracy is None or not (local or row.payload_bytes):
        return None
    return Point(
        family=family,
        label=row.method,
        seed=unit.seed,
        learned=row.learned,
        rate=row.rate,
        level=row.level,
        cut=_cut(unit, row),
        payload_bytes=row.payload_bytes.mean if row.payload_bytes else 0.0,
        accuracy=row.accuracy,
        samples=row.samples,
        head_macs=row.head_macs,
        head_parameters=row.head_parameters,
        constant_bytes=row.constant_bytes,
        local=local,
    )


def _cut(unit: Unit, row: Row) -> str:
    if row.bottleneck is None:
        return OUTPUT
    image = bottlenecks.find(row.bottleneck).domain == "image"
    return INPUT if image else unit.scenario.model.cut
