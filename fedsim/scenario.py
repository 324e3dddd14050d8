"""The schema of a scenario file: what runs, on what, how, and how often. One schema for every engine.

A scenario is validated whole before anything runs::

    file --YAML--> document --key=value--> document --schema--> Scenario --names, layers, shapes--> Scenario
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedsim import data
from fedsim.errors import Problem, ScenarioError
from fedsim.scenario_problems import problems_of, unknown
from fedsim.scenario_source import SourceError, lookup, parse_override, read, with_value

__all__ = [
    "ENGINES",
    "LOCAL",
    "Baseline",
    "BatchSection",
    "BottleneckSection",
    "DataSection",
    "EngineInfo",
    "FleetGroup",
    "ModelSection",
    "Scenario",
    "ServerSection",
    "TrainingSection",
    "load",
    "point_label",
]


@dataclass(frozen=True)
class EngineInfo:
    """What is known of an engine before it is loaded."""

    module: str
    title: str  #: one line for people
    most_devices: int  #: devices that one run may have


#: Engines by name.
ENGINES = {
    "processes": EngineInfo(
        module="fedsim.engines.processes",
        title="A tail server process and a process for each device, at most 64, on loopback.",
        most_devices=64,
    )
}
#: The baseline that runs the whole network on the device.
LOCAL = "local"
#: Sections in which a sweep may change a key: they decide which model is trained, and nothing else.
SWEPT_SECTIONS = ("model", "training")
#: Options that set the rate of a codec without learning, for plots and labels.
_RATE_OPTIONS = ("quality", "bits")
_MOST_POINTS = 1000
_IN_SWEEP = "in the sweep"


_T = TypeVar("_T")


def _known_data(name: str) -> str:
    if name not in data.available():
        raise ValueError(unknown("data set", name, data.available()))
    return name


def _known_engine(name: str) -> str:
    if name not in ENGINES:
        raise ValueError(unknown("engine", name, ENGINES))
    return name


Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Options(_Section):
    """A name, and beside it the options that only the named class knows; they are checked against it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for the constructor of the bottleneck."""
        return dict(self.model_extra or {})

    @property
    def rate(self) -> float | None:
        """The option that sets the rate (quality, bits), where one is given."""
        return next((float(self.options[key]) for key in _RATE_OPTIONS if key in self.options), None)


class DataSection(_Section):
    """The data set, by a name of :func:`fedsim.data.available`."""

    name: Annotated[str, AfterValidator(_known_data)]


class BottleneckSection(_Options):
    """What stands at the cut, and the options of its constructor.

    ``beta`` is the weight of the rate in training, in units of distortion a bit: a learned bottleneck
    needs it, any other has none.
    """

    beta: NotNegative | None = None

    @property
    def rate(self) -> float | None:
        """``beta`` or, of a bottleneck without learning, the option that sets the rate."""
        return super().rate if self.beta is None else self.beta


class ModelSection(_Section):
    """The network, and where it is cut.

    ``cut`` names the layer behind whose output the server goes on; ``entry`` the layer at whose output
    the device's part ends. What lies between them the bottleneck replaces; by default nothing does.
    """

    backbone: Name
    backbone_arguments: dict[str, Any] = {}
    cut: Name
    entry: Name | None = None
    bottleneck: BottleneckSection


class TrainingSection(_Section):
    """How teacher and bottleneck are trained; ``epochs`` and ``learning_rates`` are of its two stages."""

    recipe: Name = "entropic-student"
    teacher_epochs: Count = 30
    epochs: tuple[Count, Count] = (20, 10)
    batch_size: Count = 64
    teacher_learning_rate: Positive = 1e-3
    learning_rates: tuple[Positive, Positive] = (1e-3, 1e-3)


class Baseline(_Options):
    """Another way of running the same task: ``local`` or a bottleneck without learning, with its options."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """Name of the row: the name and, where there are any, the options' values."""
        return _label([self.name, *map(str, self.options.values())])


class FleetGroup(_Section):
    """Devices that are alike.

    ``in_flight`` bounds the unanswered samples of a device; ``fallback`` lets it answer by itself what
    the server has not answered in ``deadline_s`` seconds.
    """

    count: Annotated[int, Field(strict=True, ge=1, le=1000)]
    in_flight: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    deadline_s: Positive = 10.0
    fallback: Annotated[bool, Field(strict=True)] = False


class BatchSection(_Section):
    """When the server closes a batch: at ``size`` samples, or ``wait_ms`` milliseconds after its first."""

    size: Count = 8
    wait_ms: NotNegative = 1.0


class ServerSection(_Section):
    """The tail server: threads that run the tail, and its batches."""

    workers: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    batch: BatchSection = BatchSection()


class Scenario(_Section):
    """A scenario whose values are of the right kind. :func:`load` also checks that its names exist."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)]
    seed: Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)] = 0
    data: DataSection
    model: ModelSection
    training: TrainingSection = TrainingSection()
    baselines: tuple[Baseline, ...] = ()
    fleet: Annotated[tuple[FleetGroup, ...], Field(min_length=1)]
    server: ServerSection = ServerSection()
    engine: Annotated[str, AfterValidator(_known_engine)] = "processes"
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}

    @property
    def devices(self) -> int:
        """Devices of all groups together."""
        return sum(group.count for group in self.fleet)

    def resolved(self) -> dict[str, Any]:
        """The whole scenario, defaults filled in, as JSON values. ``Scenario(**resolved)`` is equal to it."""
        return self.model_dump(mode="json")

    def labels(self) -> list[tuple[str, str]]:
        """The name of each row of the results in its order, with the key that it comes from."""
        rows = [(baseline.label, f"baselines.{i}") for i, baseline in enumerate(self.baselines)]
        swept = "sweep" if self.sweep else "model.bottleneck"
        return rows + [(point_label(point, setting), swept) for setting, point in self.points()]

    def points(self) -> list[tuple[dict[str, Any], Scenario]]:
        """The sweep's points in order, the last key fastest: what was set, and the scenario with it set.

        Without a sweep there is one point, in which nothing was set.

        Raises:
            ScenarioError: a point that is no scenario. Cannot happen to what :func:`load` returned.
        """
        return _points(self, self.name)


def point_label(point: Scenario, setting: Mapping[str, Any]) -> str:
    """Name of the row of a point of the sweep: the bottleneck and what the sweep set.

    Args:
        point: the scenario at this point.
        setting: the swept keys with their values here.
    """
    words = [f"{key.rpartition('.')[2]}{value}" for key, value in setting.items()]
    return _label([point.model.bottleneck.name, *words])


def _label(words: Iterable[str]) -> str:
    """The words as one that is fit for the name of a file."""
    return "-".join(re.sub(r"[^\w.]+", "-", word).strip("-.") for word in words)


def load(path: Path | str, overrides: Sequence[str] = (), seed: int | None = None) -> Scenario:
    """The scenario of a YAML file, checked whole.

    Args:
        path: the file.
        overrides: ``key=value`` each, with a dotted key (``fleet.0.count=3``) and a value in YAML.
        seed: replaces the file's.

    Raises:
        ScenarioError: names the file and, for everything that is wrong, key, value and what is allowed.
    """
    from fedsim.scenario_checks import check  # noqa: PLC0415  (loads torch; the schema does not need it)

    file = str(path)
    document, origins = _document(Path(path), overrides, seed)
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        raise ScenarioError(file, [_placed(p, origins) for p in problems_of(error, Scenario)]) from None
    points = _points(scenario, file)
    if twice := _repeated([b.label for b in scenario.baselines]):
        raise ScenarioError(
            file, [Problem("baselines", "stands there twice; may stand once", Problem.shown(twice))]
        )
    origins |= dict.fromkeys(scenario.sweep, _IN_SWEEP)
    checked = dict.fromkeys(_placed(p, origins) for p in check([point for _, point in points]))
    if problems := list(checked) or [_placed(p, origins) for p in _label_problems(scenario)]:
        raise ScenarioError(file, problems)
    return scenario


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
        document = read(path)
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
    sweep = document.get("sweep")
    if sweep is None:
        document.pop("sweep", None)
    elif isinstance(sweep, dict):
        for key, values in sweep.items():
            if key in origins:
                message = f"the scenario sweeps this key; set sweep.{key}, or sweep=null first"
                raise ScenarioError(str(path), [Problem(key, message, Problem.shown(lookup(document, key)))])
            if isinstance(values, list) and values and lookup(document, key) is None:
                document = _with_swept(document, key, values[0], str(path))
                origins[key] = _IN_SWEEP
    return document, origins


def _with_swept(document: dict[str, Any], key: str, value: Any, file: str) -> dict[str, Any]:
    section = key.partition(".")[0]
    if section not in SWEPT_SECTIONS or section == key:
        allowed = " or ".join(f"{name}." for name in SWEPT_SECTIONS)
        message = f"cannot be swept; allowed are keys that begin with {allowed}"
        raise ScenarioError(file, [Problem(f"sweep.{key}", message, Problem.shown(value))])
    try:
        return with_value(document, key, value)
    except SourceError as error:
        raise ScenarioError(file, [Problem(f"sweep.{key}", str(error), Problem.shown(value))]) from None


def _points(scenario: Scenario, file: str) -> list[tuple[dict[str, Any], Scenario]]:
    if (number := math.prod(len(values) for values in scenario.sweep.values())) > _MOST_POINTS:
        problem = Problem("sweep", f"has {number} points; allowed are at most {_MOST_POINTS}")
        raise ScenarioError(file, [problem])
    base = scenario.resolved() | {"sweep": {}}
    points = []
    for values in itertools.product(*scenario.sweep.values()):
        setting = dict(zip(scenario.sweep, values, strict=True))
        document = base
        for key, value in setting.items():
            document = _with_swept(document, key, value, file)
        try:
            points.append((setting, Scenario.model_validate(document)))
        except ValidationError as error:
            origins = dict.fromkeys(setting, _IN_SWEEP)
            raise ScenarioError(file, [_placed(p, origins) for p in problems_of(error, Scenario)]) from None
    if twice := _repeated([setting for setting, _ in points]):
        problem = Problem("sweep", "stands there twice; may stand once", Problem.shown(twice))
        raise ScenarioError(file, [problem])
    return points


def _placed(problem: Problem, origins: dict[str, str]) -> Problem:
    """The problem with a word on where its value comes from, if not from the file."""
    for key, origin in origins.items():
        if problem.key == key or problem.key.startswith(f"{key}.") or key.startswith(f"{problem.key}."):
            return Problem(problem.key, problem.message, problem.value, origin)
    return problem


def _repeated(values: Sequence[_T]) -> _T | None:
    """The first value that stands there for the second time."""
    return next((value for index, value in enumerate(values) if value in values[:index]), None)
