"""Whether the names, layers, shapes and options of a scenario exist and fit. Trains and runs nothing.

Networks and bottlenecks are built on torch's ``meta`` device: their shapes are known, their weights
are never made.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from edge import backbones, bottlenecks
from edge.split import CutError, cut
from fedsim import data
from fedsim.errors import Problem
from fedsim.fleet import fleet_problems, only_virtual, timeless
from fedsim.scenario import (
    ENGINES,
    LOCAL,
    Baseline,
    BottleneckSection,
    ModelSection,
    Scenario,
    TrainingSection,
)
from fedsim.scenario_problems import complaint, unknown
from fedsim.scenario_sections import OF_THE_RECIPE
from fedsim.training import recipes

__all__ = ["check", "fleet_problem"]

_Shape = tuple[int, ...]
_CHECKED = {"data", "model", "baselines", "training", "tasks", "fleet", "server", "engine", "duration_s"}


class _WrongError(Exception):
    """Ends the check of a section with its problem: what comes after would only fail for the same reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def check(scenarios: Sequence[Scenario]) -> list[Problem]:
    """Everything that is wrong in the names, layers, shapes and options of these scenarios.

    What several scenarios have in common, as the points of a sweep do, is checked once.
    """
    problems: list[Problem] = []
    seen: set[str] = set()
    networks: dict[str, _Layers] = {}
    for scenario in scenarios:
        key = scenario.model_dump_json(include=_CHECKED)
        if key not in seen:
            seen.add(key)
            problems += _check_one(scenario, networks)
    return problems


def _check_one(scenario: Scenario, networks: dict[str, _Layers]) -> Iterator[Problem]:
    yield from _recipe_problems(scenario.training)
    source = data.find(scenario.data.name)
    yield from _task_problems(scenario)
    samples = source.test_samples if scenario.data.validation is None else None  # known once they are read
    if problem := fleet_problem(scenario, samples):
        yield problem
    yield from fleet_problems(scenario.fleet, samples, scenario.server, scenario.duration_s)
    yield from _engine_problems(scenario)
    try:
        layers = _network(scenario.model, source.image_shape, source.classes, networks)
    except _WrongError as error:
        yield error.problem
        return
    for part in _parts(scenario):
        try:
            yield from _check_bottleneck(part, scenario.model, layers)
        except _WrongError as error:
            yield error.problem


def _recipe_problems(training: TrainingSection) -> Iterator[Problem]:
    """Whether the recipe is known, and its stages have the numbers that they need."""
    name = training.recipe
    if name not in recipes.available():
        yield Problem("training.recipe", unknown("recipe", name, recipes.available()), Problem.shown(name))
        return
    stages = recipes.find(name).stages
    for key in OF_THE_RECIPE:
        given = getattr(training, key)
        if len(given) != len(stages):
            entries = f"{len(stages)} {'entry' if len(stages) == 1 else 'entries'}: {', '.join(stages)}"
            message = f"the recipe {name!r} needs {entries}"
            yield Problem(f"training.{key}", message, Problem.shown(list(given)))


def _task_problems(scenario: Scenario) -> Iterator[Problem]:
    """Whether the data set has the further tasks."""
    known = data.find(scenario.data.name).tasks
    for number, name in enumerate(scenario.tasks):
        if name not in known:
            kind = f"task of the data set {scenario.data.name!r}"
            yield Problem(f"tasks.{number}", unknown(kind, name, known), Problem.shown(name))


def fleet_problem(scenario: Scenario, samples: int | None) -> Problem | None:
    """What is wrong with the number of devices, if anything.

    Args:
        scenario: whose fleet is looked at.
        samples: size of the test set, which the devices share; None where it is not known yet.
    """
    engine = ENGINES[scenario.engine]
    if scenario.devices > engine.most_devices:
        most = f"the engine {scenario.engine!r} takes at most {engine.most_devices}"
    elif samples is not None and scenario.devices > samples and scenario.duration_s is None:
        most = f"each needs a sample of its own, and the test set of {scenario.data.name!r} has {samples}"
    else:
        return None
    shown = Problem.shown([group.model_dump(include={"count"}) for group in scenario.fleet])
    return Problem("fleet", f"has {scenario.devices} devices; {most}", shown)


def _engine_problems(scenario: Scenario) -> Iterator[Problem]:
    """What the engine cannot follow."""
    if ENGINES[scenario.engine].paced:
        yield from timeless(scenario.fleet, scenario.server)
    if not ENGINES[scenario.engine].virtual:
        yield from only_virtual(scenario.fleet, scenario.server, scenario.duration_s)
        return
    for number, group in enumerate(scenario.fleet):
        if group.fallback:
            message = f"the engine {scenario.engine!r} has none: a sample that is late has failed"
            yield Problem(f"fleet.{number}.fallback", message, Problem.shown(True))


_Part = tuple[str, BottleneckSection | Baseline]


def _parts(scenario: Scenario) -> list[_Part]:
    """The bottlenecks of a scenario, each with its key."""
    parts: list[_Part] = [("model.bottleneck", scenario.model.bottleneck)]
    parts += [(f"baselines.{i}", b) for i, b in enumerate(scenario.baselines)]
    return parts


def _network(model: ModelSection, image_shape: _Shape, classes: int, made: dict[str, _Layers]) -> _Layers:
    """The network on the ``meta`` device, if it exists and fits the data set; made once for all points."""
    key = "model.backbone"
    identity = json.dumps([model.backbone, model.backbone_arguments, image_shape, classes], sort_keys=True)
    if identity in made:
        return made[identity]
    try:
        network = backbones.skeleton(model.backbone, **model.backbone_arguments).eval()
    except LookupError as error:
        known = [*backbones.available(), "torchvision:NAME", "timm:NAME", "package.module:factory"]
        message = unknown("backbone", model.backbone, known) if ":" not in model.backbone else _said(error)
        raise _WrongError(Problem(key, message, Problem.shown(model.backbone))) from error
    except Exception as error:  # whatever a network's constructor makes of its arguments
        raise _at_option(f"{key}_arguments", model.backbone_arguments, _said(error)) from error
    shown = Problem.shown({"backbone": model.backbone, **model.backbone_arguments})
    try:
        logits = _shape_behind(network, image_shape)
    except Exception as error:
        message = f"does not take the images {list(image_shape)} of the data set: {_said(error)}"
        raise _WrongError(Problem(key, message, shown)) from error
    if logits != (classes,):
        message = f"gives an output of shape {list(logits)}; the data set needs logits for {classes} classes"
        raise _WrongError(Problem(key, message, shown))
    made[identity] = _Layers(network, image_shape)
    return made[identity]


def _check_bottleneck(part: _Part, model: ModelSection, layers: _Layers) -> Iterator[Problem]:
    key, section = part
    if section.name == LOCAL and isinstance(section, Baseline):
        if section.options:
            message = f"{LOCAL!r} runs the whole network on the device and has no options; leave them out"
            raise _WrongError(Problem(key, message, Problem.shown(section.options)))
        return
    cls = _find_bottleneck(key, section)
    if problems := [*_option_problems(key, section, cls), *_beta_problems(key, section, cls)]:
        yield from problems
        return
    shapes = _shapes(section, model, cls, layers)
    try:
        with torch.device("meta"):
            made = bottlenecks.create(section.name, *shapes, **section.options)
    except Exception as error:  # whatever a constructor makes of values that it does not allow
        raise _at_option(key, section.options, _said(error), name=section.name) from error
    if isinstance(section, BottleneckSection) and model.levels is not None:
        yield from _level_problems(model.levels, made.levels, section.name)


def _level_problems(levels: Sequence[int], number: int, name: str) -> Iterator[Problem]:
    """The rate levels that get a row, against those that there are."""
    shown = Problem.shown(list(levels))
    if len(set(levels)) < len(levels):
        yield Problem("model.levels", "a level stands there twice; each may stand once", shown)
    if max(levels) >= number:
        there = f"levels 0 to {number - 1}" if number > 1 else "one level, 0"
        yield Problem("model.levels", f"the bottleneck {name!r} has {there}", shown)


def _find_bottleneck(key: str, section: BottleneckSection | Baseline) -> type[bottlenecks.Bottleneck]:
    name = section.name
    shown = Problem.shown(name)
    baseline = isinstance(section, Baseline)
    try:
        cls = bottlenecks.find(name)
    except LookupError as error:
        known = [*(_baselines() if baseline else bottlenecks.available()), "package.module:Class"]
        kind = "baseline" if baseline else "bottleneck"
        nowhere = ":" not in name and name not in bottlenecks.available()
        message = unknown(kind, name, known) if nowhere else _said(error)
        raise _WrongError(Problem(f"{key}.name", message, shown)) from error
    except Exception as error:  # importing the code of others can raise anything
        raise _WrongError(Problem(f"{key}.name", f"cannot be imported: {_said(error)}", shown)) from error
    if baseline and cls.learned:
        message = f"has to be trained; baselines are {', '.join(_baselines())}"
        raise _WrongError(Problem(f"{key}.name", message, shown))
    return cls


def _baselines() -> list[str]:
    """The names that a baseline can have. A plug-in that cannot be imported is none of them."""
    names = [LOCAL]
    for name in bottlenecks.available():
        with contextlib.suppress(Exception):
            if not bottlenecks.find(name).learned:
                names.append(name)
    return names


def _beta_problems(
    key: str, section: BottleneckSection | Baseline, cls: type[bottlenecks.Bottleneck]
) -> Iterator[Problem]:
    """The rate weight, which a bottleneck with a learned rate needs and no other has."""
    if not isinstance(section, BottleneckSection):
        return
    beta = section.beta
    weighted = cls.learned and cls.rate_weighted
    if weighted and beta is None and not difflib.get_close_matches("beta", section.options):
        yield Problem(f"{key}.beta", "is missing; a learned bottleneck needs a number, at least 0")
    if beta is not None and not weighted:
        why = "its rate is not learned" if cls.learned else "this bottleneck is not learned"
        message = f"{why}, so it has no rate weight; leave the key out"
        yield Problem(f"{key}.beta", message, Problem.shown(beta))


def _option_problems(
    key: str, section: BottleneckSection | Baseline, cls: type[bottlenecks.Bottleneck]
) -> Iterator[Problem]:
    """The options against the constructor's signature: names, and kinds where they are annotated."""
    parameters = _options_of(cls)
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    own = ["name", *(["beta"] if isinstance(section, BottleneckSection) else [])]
    known = [*own, *(n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD)]
    strangers = [] if free else [option for option in section.options if option not in parameters]
    for option, value in section.options.items():
        place, shown = f"{key}.{option}", Problem.shown(value)
        if option in strangers:
            yield Problem(place, unknown("key", option, known, listed="the keys here are"), shown)
        elif option in parameters and (said := complaint(parameters[option].annotation, value)):
            yield Problem(place, said, shown)
    for option, parameter in parameters.items():
        needed = parameter.default is parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
        misspelt = difflib.get_close_matches(option, strangers)
        if needed and option not in section.options and not misspelt:
            yield Problem(f"{key}.{option}", f"is missing; {section.name!r} needs it")


def _options_of(cls: type[bottlenecks.Bottleneck]) -> dict[str, inspect.Parameter]:
    """The parameters of a bottleneck's constructor but for the two shapes."""
    constructor: Callable[..., Any] = cls
    try:
        signature = inspect.signature(constructor, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers only
        signature = inspect.signature(constructor)
    return {n: p for n, p in signature.parameters.items() if n not in {"input_shape", "output_shape"}}


def _shapes(
    section: BottleneckSection | Baseline,
    model: ModelSection,
    cls: type[bottlenecks.Bottleneck],
    layers: _Layers,
) -> tuple[_Shape, _Shape]:
    """Shapes of one sample ahead of the bottleneck and behind it.

    A baseline that sends features sends those of ``cut``; one that sends images sends them whole.
    """
    behind = layers.shape("model.cut", model.cut)
    if isinstance(section, Baseline):
        return (layers.image_shape, layers.image_shape) if cls.domain == "image" else (behind, behind)
    entry = model.entry if model.entry is not None else model.cut
    ahead = layers.shape("model.entry", entry)
    try:
        cut(layers.network, model.cut, entry=entry)
    except CutError as error:
        raise _WrongError(Problem("model.entry", _said(error), Problem.shown(model.entry))) from error
    if cls.domain == "image" and (model.cut, entry) != ("input", "input"):
        message = f"the bottleneck {section.name!r} sends images; the cut has to be input, without an entry"
        raise _WrongError(Problem("model.cut", message, Problem.shown(model.cut)))
    return ahead, behind


class _Layers:
    """A network on the ``meta`` device, and the shapes at its layers."""

    def __init__(self, network: nn.Module, image_shape: _Shape) -> None:
        self.network = network
        self.image_shape = image_shape
        self._shapes: dict[str, _Shape] = {}

    def shape(self, key: str, layer: str) -> _Shape:
        """Shape of one sample's value at the layer that ``key`` of the scenario names."""
        if layer not in self._shapes:
            try:
                head, _ = cut(self.network, layer)
            except CutError as error:
                raise _WrongError(Problem(key, _said(error), Problem.shown(layer))) from error
            self._shapes[layer] = _shape_behind(head, self.image_shape)
        return self._shapes[layer]


def _shape_behind(module: nn.Module, image_shape: _Shape) -> _Shape:
    with torch.inference_mode():
        return tuple(module(torch.zeros(2, *image_shape, device="meta")).shape[1:])


def _at_option(key: str, options: dict[str, Any], said: str, name: str | None = None) -> _WrongError:
    """A constructor's complaint, placed at the option that it speaks of, or else at all of them."""
    for option, value in options.items():
        if re.search(rf"\b{re.escape(option)}\b", said):
            return _WrongError(Problem(f"{key}.{option}", said, Problem.shown(value)))
    shown = options if name is None else {"name": name, **options}
    return _WrongError(Problem(key, said, Problem.shown(shown)))


def _said(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error.args[0] if error.args else error).split()) or type(error).__name__
