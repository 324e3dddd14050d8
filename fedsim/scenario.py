"""The schema of a scenario file: what runs, on what, how, and how often. One schema for every engine.

A scenario is validated whole before anything runs::

    file --YAML--> document --key=value--> document --schema--> Scenario --names, layers, shapes--> Scenario
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from fedsim.errors import Problem, ScenarioError
from fedsim.scenario_federation import FederatedScenario, FederationSection, is_federated_only
from fedsim.scenario_problems import problems_of
from fedsim.scenario_sections import (
    ENGINES,
    LOCAL,
    OF_THE_RECIPE,
    Baseline,
    BatchSection,
    BottleneckSection,
    DataSection,
    Engine,
    EngineInfo,
    FleetGroup,
    ModelSection,
    Name,
    Positive,
    Section,
    Seed,
    ServerSection,
    TrainingSection,
    label_of,
)
from fedsim.scenario_source import SourceError, lookup, parse_override, read, with_value
from fedsim.sweep import grid

__all__ = [
    "ENGINES",
    "LOCAL",
    "Baseline",
    "BatchSection",
    "BottleneckSection",
    "DataSection",
    "EngineInfo",
    "FederatedScenario",
    "FederationSection",
    "FleetGroup",
    "ModelSection",
    "Scenario",
    "ServerSection",
    "TrainingSection",
    "load",
    "point_label",
]


_MOST_POINTS = 1000

_T = TypeVar("_T")

SweepGrid = dict[str, Annotated[list[Any], Field(min_length=1)]]


class Scenario(Section):
    """A scenario whose values are of the right kind. :func:`load` also checks that its names exist.

    ``duration_s`` is how long the fleet works, in virtual time; devices then go through the test set as often
    as their arrivals ask for. Without it they share the test set out, and each sample is told once.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)]
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()
    data: DataSection
    model: ModelSection
    training: TrainingSection = TrainingSection()
    tasks: tuple[Name, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    fleet: Annotated[tuple[FleetGroup, ...], Field(min_length=1)]
    server: ServerSection = ServerSection()
    federation: FederationSection | None = None
    engine: Engine = "processes"
    duration_s: Positive | None = None
    most_failed: Annotated[float, Field(ge=0, le=1)] | None = None
    sweep: Annotated[tuple[SweepGrid, ...], BeforeValidator(grid.as_grids)] = ()

    @property
    def devices(self) -> int:
        """Devices of all groups together."""
        return sum(group.count for group in self.fleet)

    def resolved(self) -> dict[str, Any]:
        """The whole scenario, defaults filled in, as JSON values. ``Scenario(**resolved)`` is equal to it.

        What depends on the recipe stays empty where the sweep changes that and the file does not say.
        """
        document = self.model_dump(mode="json")
        if any("training.recipe" in grid for grid in self.sweep):
            unsaid = set(OF_THE_RECIPE) - self.training.model_fields_set
            document["training"] |= {key: [] for key in unsaid}
        return document

    def labels(self) -> list[tuple[str, str]]:
        """The name of each row of the results in its order, with the key that it comes from."""
        rows = [(baseline.label, f"baselines.{i}") for i, baseline in enumerate(self.baselines)]
        swept = "sweep" if self.sweep else "model.bottleneck"
        return rows + [(point_label(point, setting), swept) for setting, point in self.points()]

    def points(self) -> list[tuple[dict[str, Any], Scenario]]:
        """The sweep's points, grid by grid, in a grid the last key fastest.

        Each with the keys and values that name it (:func:`point_label`) and the scenario at the point.
        Without a sweep there is one point, which nothing has to name.

        Raises:
            ScenarioError: a point that is no scenario. Cannot happen to what :func:`load` returned.
        """
        found = [point for part in _points(self, self.name) for point in part]
        swept = [grid.SweptPoint(number, setting, p.resolved()) for number, setting, p in found]
        names = grid.naming(swept, self.sweep)
        return [(name, point) for name, (_, _, point) in zip(names, found, strict=True)]


def point_label(point: Scenario, setting: Mapping[str, Any]) -> str:
    """Name of the row of a point of the sweep: the bottleneck and what the sweep set.

    Args:
        point: the scenario at this point.
        setting: keys with their values here, as :meth:`Scenario.points` gives them.
    """
    words = [f"{key.rpartition('.')[2]}{value}" for key, value in setting.items()]
    return label_of([point.model.bottleneck.name, *words])


def load(
    path: Path | str, overrides: Sequence[str] = (), seed: int | None = None
) -> Scenario | FederatedScenario:
    """The scenario of a YAML file, checked whole.

    Args:
        path: the file.
        overrides: ``key=value`` each, with a dotted key (``fleet.0.count=3``) and a value in YAML.
        seed: replaces the file's.

    Raises:
        ScenarioError: names the file and, for everything that is wrong, key, value and what is allowed.
    """
    file = str(path)
    document, origins = _document(Path(path), overrides, seed)
    if is_federated_only(document):
        return _federated(file, document, origins)
    return _split(file, document, origins)


def _federated(file: str, document: Mapping[str, Any], origins: dict[str, str]) -> FederatedScenario:
    """A scenario that is federated only."""
    from fedsim.scenario_federation_checks import check_federation  # noqa: PLC0415  (loads torch and Flower)

    try:
        scenario = FederatedScenario.model_validate(document)
    except ValidationError as error:
        problems = problems_of(error, FederatedScenario)
        raise ScenarioError(file, [_placed(p, origins) for p in problems]) from None
    if found := [_placed(p, origins) for p in check_federation(scenario)]:
        raise ScenarioError(file, found)
    return scenario


def _split(file: str, document: dict[str, Any], origins: dict[str, str]) -> Scenario:
    """A scenario of a network that is split."""
    from fedsim.scenario_checks import check  # noqa: PLC0415  (loads torch; the schema does not need it)

    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        problems = problems_of(error, Scenario)
        if isinstance(document.get("sweep"), Mapping):
            problems = [replace(p, key=re.sub(r"^sweep\.0\.", "sweep.", p.key)) for p in problems]
        raise ScenarioError(file, [_placed(p, origins) for p in problems]) from None
    if twice := _repeated([b.label for b in scenario.baselines]):
        raise ScenarioError(
            file, [Problem("baselines", "stands there twice; may stand once", Problem.shown(twice))]
        )
    for key in ("seeds", "tasks"):
        if (double := _repeated(getattr(scenario, key))) is not None:
            raise ScenarioError(
                file, [Problem(key, "stands there twice; may stand once", Problem.shown(double))]
            )
    wrong: dict[Problem, None] = {}
    for part in _points(scenario, file):
        known = origins | _grid_origins(scenario, part[0][0])
        wrong |= {_placed(p, known): None for p in check([point for _, _, point in part])}
    wrong |= {_placed(p, origins): None for p in _problems_of_federation(scenario)}
    origins |= {key: _origin(scenario, n) for n, keys in enumerate(scenario.sweep) for key in keys}
    if found := list(wrong) or [_placed(p, origins) for p in _label_problems(scenario)]:
        raise ScenarioError(file, found)
    return scenario


def _problems_of_federation(scenario: Scenario) -> list[Problem]:
    """What is wrong in the federation of a scenario that has a split network, too."""
    if scenario.federation is not None:
        from fedsim.scenario_federation_checks import check_federation  # noqa: PLC0415  (loads Flower)

        return list(check_federation(scenario))
    keys = [key for key in ("partition", "personal_test") if getattr(scenario.data, key) is not None]
    return [Problem(f"data.{key}", "is of a federation; there is no section federation") for key in keys]


def _origin(scenario: Scenario, number: int) -> str:
    """Where a value comes from that a grid sets."""
    return f"in grid {number} of the sweep" if len(scenario.sweep) > 1 else "in the sweep"


def _grid_origins(scenario: Scenario, number: int) -> dict[str, str]:
    return dict.fromkeys(scenario.sweep[number], _origin(scenario, number)) if scenario.sweep else {}


def _label_problems(scenario: Scenario) -> list[Problem]:
    """Rows of the results that would have the name of an earlier one."""
    problems = []
    earlier: dict[str, str] = {}
    for label, key in scenario.labels():
        folder = label.casefold()  # some file systems take upper and lower case for the same
        if folder in earlier:
            message = f"gives a row the name that {earlier[folder]} gives to another; names have to differ"
            problems.append(Problem(key, message, Problem.shown(label)))
        earlier.setdefault(folder, key)
    return problems


def _document(
    path: Path, overrides: Sequence[str], seed: int | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The file's values with the overrides applied, and where the values of some keys come from."""
    origins: dict[str, str] = {}
    try:
        document = _found_beside(path.parent, read(path))
    except SourceError as error:
        raise ScenarioError(str(path), [Problem("", str(error))]) from None
    for override in overrides:
        try:
            key, value = parse_override(override)
            document = with_value(document, key, value)
        except SourceError as error:
            raise ScenarioError(str(path), [Problem("--set", str(error))]) from None
        origins[key] = "by --set"
    if seed is not None:
        document["seed"] = seed
        origins["seed"] = "by --seed"
    if document.get("sweep") is None:
        document.pop("sweep", None)
    try:
        grids = grid.as_grids(document.get("sweep"))
    except ValueError:  # the schema says what is wrong
        return document, origins
    several = isinstance(document.get("sweep"), list)
    for number, keys in enumerate(grids):
        place = f"sweep.{number}." if several else "sweep."
        for key in keys if isinstance(keys, dict) else ():
            if not grid.is_swept(key):
                allowed = " or ".join(f"{name}." for name in grid.SWEPT_SECTIONS)
                message = f"cannot be swept; allowed are keys that begin with {allowed}"
                shown = Problem.shown(next(iter(keys[key]), None))
                raise ScenarioError(str(path), [Problem(f"{place}{key}", message, shown)])
            for other in origins:
                if other == key or other.startswith(f"{key}."):
                    message = f"the scenario sweeps this key; set {place}{key}, or sweep=null first"
                    shown = Problem.shown(lookup(document, other))
                    raise ScenarioError(str(path), [Problem(other, message, shown)])
    first = grids[0] if grids and isinstance(grids[0], dict) else {}
    missing = {key: v[0] for key, v in first.items() if v and lookup(document, key) is None}
    try:
        document = grid.apply(document, missing)
    except SourceError as error:
        raise ScenarioError(str(path), [Problem("sweep.0" if several else "sweep", str(error))]) from None
    return document, origins | dict.fromkeys(missing, "in grid 0 of the sweep" if several else "in the sweep")


def _found_beside(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The document with the paths of hardware files that lie in the scenario's folder; others are left."""

    def found(section: object, keys: Sequence[str]) -> object:
        if not isinstance(section, dict):
            return section
        paths = {key: folder / name for key in keys if isinstance(name := section.get(key), str)}
        return section | {
            key: str(path) for key, path in paths.items() if path.suffix == ".toml" and path.is_file()
        }

    changed = dict(document)
    if isinstance(groups := document.get("fleet"), list):
        changed["fleet"] = [found(group, ("device", "link", "radio")) for group in groups]
    if "server" in document:
        changed["server"] = found(document["server"], ("device",))
    return changed


_Point = tuple[int, dict[str, Any], Scenario]


def _points(scenario: Scenario, file: str) -> list[list[_Point]]:
    """The points of each grid: its number, what was set, the scenario."""
    if not scenario.sweep:
        return [[(0, {}, scenario.model_copy(update={"seeds": ()}) if scenario.seeds else scenario)]]
    if (number := grid.size(scenario.sweep)) > _MOST_POINTS:
        problem = Problem("sweep", f"has {number} points; allowed are at most {_MOST_POINTS}")
        raise ScenarioError(file, [problem])
    # What was not set is left out, because its default may depend on what a grid sets.
    base = scenario.model_dump(mode="json", exclude_unset=True, exclude={"sweep", "seeds"})
    parts: list[list[_Point]] = [[] for _ in scenario.sweep]
    for number, setting in grid.settings(scenario.sweep):
        try:
            point = Scenario.model_validate(grid.apply(base, setting))
        except SourceError as error:
            where = f"sweep.{number}" if len(scenario.sweep) > 1 else "sweep"
            raise ScenarioError(file, [Problem(where, str(error), Problem.shown(setting))]) from None
        except ValidationError as error:
            origins = _grid_origins(scenario, number)
            raise ScenarioError(file, [_placed(p, origins) for p in problems_of(error, Scenario)]) from None
        parts[number].append((number, setting, point))
    listed = [point for part in parts for point in part]
    seen: set[str] = set()
    for _, setting, point in listed:
        if (text := point.model_dump_json()) in seen:
            problem = Problem("sweep", "stands there twice; may stand once", Problem.shown(setting))
            raise ScenarioError(file, [problem])
        seen.add(text)
    return parts


def _placed(problem: Problem, origins: dict[str, str]) -> Problem:
    """The problem with a word on where its value comes from, if not from the file."""
    for key, origin in origins.items():
        if problem.key == key or problem.key.startswith(f"{key}.") or key.startswith(f"{problem.key}."):
            return Problem(problem.key, problem.message, problem.value, origin)
    return problem


def _repeated(values: Sequence[_T]) -> _T | None:
    """The first value that stands there for the second time."""
    return next((value for index, value in enumerate(values) if value in values[:index]), None)
