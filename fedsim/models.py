"""From a scenario to its models: the teacher, a trained model for each point of the sweep, the baselines."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge import backbones, bottlenecks, bundle
from edge.bundle import ModelSpec
from edge.split import INPUT, OUTPUT, SplitModel
from fedsim.data import Dataset
from fedsim.engines.plan import Method
from fedsim.errors import ModelError
from fedsim.measure.summary import ModelCost
from fedsim.progress import Display
from fedsim.scenario import LOCAL, Baseline, Scenario, point_label
from fedsim.training import recipes
from fedsim.training.classifier import train_classifier
from fedsim.training.hints import Hints
from fedsim.training.loop import Epoch, Images, as_input

__all__ = ["Model", "Workshop"]


@dataclass(frozen=True)
class Model:
    """A model that has been made and saved."""

    method: Method
    cost: ModelCost
    history: tuple[Epoch, ...]  #: of its training


class Workshop:
    """Makes the models of one scenario and saves their bundles.

    Args:
        dataset: its training set is used, and nothing else.
        seed: of every training, so that the points of a sweep differ in what is swept alone.
        folder: bundles go to ``<folder>/<method>``.
        display: shows the progress.
    """

    def __init__(self, dataset: Dataset, seed: int, folder: Path, display: Display) -> None:
        self._dataset = dataset
        self._images = Images(torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train))
        self._seed = seed
        self._folder = folder
        self._display = display
        self._teachers: dict[str, tuple[nn.Module, tuple[Epoch, ...]]] = {}

    def trained(self, point: Scenario, setting: Mapping[str, Any]) -> Model:
        """The model of one point of the sweep, trained by the scenario's recipe.

        Args:
            point: the scenario at this point.
            setting: the swept keys with their values here; they name the method.

        Raises:
            ModelError: it cannot be made, or not be saved.
            TrainingError: its training failed.
        """
        section = point.model
        name = point_label(point, setting)
        teacher, _ = self._teacher(point)
        history: list[Epoch] = []
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            with _making(name):
                spec = ModelSpec(
                    name=name,
                    network=section.backbone,
                    network_arguments=section.backbone_arguments,
                    cut=section.cut,
                    entry=section.entry,
                    input_shape=self._dataset.x_train.shape[1:],
                    bottleneck=section.bottleneck.name,
                    bottleneck_arguments=section.bottleneck.options,
                    rate=section.bottleneck.rate,
                )
                model = bundle.build(spec, copy.deepcopy(teacher))
            if model.bottleneck is not None and model.bottleneck.learned:
                history = self._taught(point, name, model, teacher)
            else:
                _finish(model, name)
        return self._saved(model, spec, history)

    def baseline(self, scenario: Scenario, baseline: Baseline) -> Model:
        """A baseline: nothing is trained but the uncut network.

        Raises:
            ModelError: it cannot be made, or not be saved.
            TrainingError: the training of the network failed.
        """
        teacher, history = self._teacher(scenario)
        section = scenario.model
        with _making(baseline.label):
            if baseline.name == LOCAL:
                cut: str = OUTPUT
            else:
                cut = INPUT if bottlenecks.find(baseline.name).domain == "image" else section.cut
            spec = ModelSpec(
                name=baseline.label,
                network=section.backbone,
                network_arguments=section.backbone_arguments,
                cut=cut,
                entry=None,
                input_shape=self._dataset.x_train.shape[1:],
                bottleneck=None if baseline.name == LOCAL else baseline.name,
                bottleneck_arguments=baseline.options,
                rate=baseline.rate,
            )
            model = bundle.build(spec, teacher)
        _finish(model, baseline.label)
        return self._saved(model, spec, history if baseline.name == LOCAL else ())

    def _taught(self, point: Scenario, name: str, model: SplitModel, teacher: nn.Module) -> list[Epoch]:
        """Train the model by the scenario's recipe."""
        training = point.training
        with _making(name):
            hints = Hints(teacher, model.tail, point.model.cut, as_input(self._images.pixels[:1]))
        with self._display.task(f"training {name}", sum(training.epochs)) as task:
            lesson = recipes.Lesson(
                model=model,
                teacher=teacher,
                hints=hints,
                images=self._images,
                beta=point.model.bottleneck.beta or 0.0,
                epochs=training.epochs,
                batch_size=training.batch_size,
                learning_rates=training.learning_rates,
                generator=torch.Generator().manual_seed(self._seed),
                task=task,
            )
            return recipes.find(training.recipe)(lesson)

    def _teacher(self, scenario: Scenario) -> tuple[nn.Module, tuple[Epoch, ...]]:
        """The uncut network, trained once for all that share its settings."""
        section, training = scenario.model, scenario.training
        settings = (training.teacher_epochs, training.teacher_learning_rate, training.batch_size)
        key = json.dumps([section.backbone, section.backbone_arguments, settings], sort_keys=True)
        if key not in self._teachers:
            with (
                torch.random.fork_rng(),
                self._display.task(f"training {section.backbone}", training.teacher_epochs) as task,
            ):
                torch.manual_seed(self._seed)
                with _making(section.backbone):
                    network = backbones.create(section.backbone, **section.backbone_arguments)
                history = train_classifier(
                    network,
                    self._images,
                    epochs=training.teacher_epochs,
                    batch_size=training.batch_size,
                    learning_rate=training.teacher_learning_rate,
                    generator=torch.Generator().manual_seed(self._seed),
                    task=task,
                )
            self._teachers[key] = network.requires_grad_(False), tuple(history)
        return self._teachers[key]

    def _saved(self, model: SplitModel, spec: ModelSpec, history: Sequence[Epoch]) -> Model:
        folder = self._folder / spec.name
        with _making(spec.name):
            bundle.save(model, spec, folder)
            device = bundle.load_device(folder)
            server = None if device.local else bundle.load_server(folder)
        cost = ModelCost(
            bottleneck=spec.bottleneck,
            learned=model.bottleneck is not None and model.bottleneck.learned,
            head_macs=device.macs,
            head_parameters=device.parameters,
            tail_macs=0 if server is None else server.macs,
            tail_parameters=0 if server is None else server.parameters,
        )
        return Model(Method(spec.name, folder, device.local), cost, tuple(history))


def _finish(model: SplitModel, name: str) -> None:
    """Make a model ready to run that nothing is to be trained in."""
    model.eval()
    if model.bottleneck is not None:
        with _making(name):
            model.bottleneck.freeze()


@contextmanager
def _making(name: str) -> Iterator[None]:
    """Whatever the parts of a model object to, as a ModelError that says which model."""
    try:
        yield
    except (ValueError, TypeError, LookupError, RuntimeError, OSError) as error:
        said = " ".join(str(error.args[0] if len(error.args) == 1 else error).split())
        raise ModelError(f"model {name!r} cannot be made: {said or type(error).__name__}") from error
