"""From a scenario to its models: the teacher, a trained model for each point of the sweep, the baselines."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from edge import bottlenecks, bundle
from edge.bundle import ModelSpec
from edge.split import INPUT, OUTPUT, SplitModel
from fedsim import __version__
from fedsim.data import Dataset, Task
from fedsim.engines.plan import Method
from fedsim.errors import ModelError
from fedsim.measure.summary import ModelCost
from fedsim.progress import Display
from fedsim.scenario import LOCAL, Baseline, Scenario, point_label
from fedsim.teachers import Teacher, Teachers, digest_of
from fedsim.training import recipes
from fedsim.training.checkpoint import Checkpoint, code_of, identity_of
from fedsim.training.collapse import SAMPLES, collapse_remark
from fedsim.training.compute import resolve
from fedsim.training.hints import Hints
from fedsim.training.lesson import Lesson
from fedsim.training.loop import Epoch, Images, as_input, evenly
from fedsim.training.tails import Tail, TaskResult, second_tail

__all__ = ["Model", "Workshop"]


@dataclass(frozen=True)
class Model:
    """A model that has been made and saved, at one of its rates."""

    method: Method
    cost: ModelCost
    history: tuple[Epoch, ...]  #: of its training
    remarks: tuple[str, ...] = ()  #: sentences that people should read
    tasks: tuple[TaskResult, ...] = ()  #: what second tails made of its payloads


class Workshop:
    """Makes the models of one scenario and saves their bundles.

    Args:
        dataset: models are trained on its training set; the test set is used to say how well second tails
            do, and for nothing else.
        seed: of every training, so that the points of a sweep differ in what is swept alone.
        folder: bundles go to ``<folder>/<method>``.
        display: shows the progress, and says what is to be known of a model.
        checkpoints: folder for the state of every training, so that after a kill it goes on where it was,
            and a finished one is not gone through again. Whoever names it removes it when the models are
            where they should be. None keeps nothing.
        teachers: folder in which trained uncut networks are kept and shared between processes.
        device: where models are trained: ``cpu``, ``cuda``, or ``auto`` for the GPU where there is one.
        precision: ``float32``, ``bf16``, or ``auto`` for bf16 on a GPU that has it.

    Raises:
        TrainingError: a device that is not there.
    """

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        folder: Path,
        display: Display,
        *,
        checkpoints: Path | None = None,
        teachers: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._dataset = dataset
        self._images = Images(torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train))
        self._seed = seed
        self._folder = folder
        self._display = display
        self._checkpoints = checkpoints
        self._compute = resolve(device, precision)
        self._digest = digest_of(dataset.x_train, dataset.y_train)
        self._teachers = Teachers(
            self._images, self._digest, seed, display, self._compute, teachers, self._checkpoint
        )

    def teacher(self, point: Scenario) -> None:
        """Make the uncut network of a point, if it is not there yet.

        Raises:
            ModelError: it cannot be made, or its weights not be loaded.
            TrainingError: its training failed.
        """
        self._teacher(point)

    def trained(self, point: Scenario, setting: Mapping[str, Any]) -> list[Model]:
        """The model of one point of the sweep, trained by the scenario's recipe; one row for each rate level.

        Args:
            point: the scenario at this point.
            setting: the swept keys with their values here; they name the method.

        Raises:
            DataError: the data set has no such task.
            ModelError: it cannot be made, or not be saved.
            TrainingError: its training failed.
        """
        section = point.model
        name = point_label(point, setting)
        tasks = [self._dataset.task(task) for task in point.tasks]
        teacher = self._teacher(point)
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
                model = bundle.build(spec, copy.deepcopy(teacher.network))
                rows = _rows(name, model, section.levels)
            identity = self._identity(point, spec, model, teacher)
            checkpoint = self._checkpoint(f"{name}-seed{self._seed}", identity)
            if model.bottleneck is not None and model.bottleneck.learned:
                history = self._taught(point, name, model, teacher, checkpoint)
            else:
                _finish(model, name)
            with _making(name):
                remarks = {level: self._remarks(model, method, level) for method, level in rows}
            tails = [self._tail(point, model, name, task, identity) for task in tasks]
        cost = self._saved(model, spec)
        folder = self._folder / name
        return [
            Model(
                Method(method, folder, local=False, level=level),
                cost,
                tuple(history),
                remarks[level],
                tuple(tail.evaluate(test, level) for tail, test in tails),
            )
            for method, level in rows
        ]

    def baseline(self, scenario: Scenario, baseline: Baseline) -> Model:
        """A baseline: nothing is trained but the uncut network.

        Raises:
            ModelError: it cannot be made, or not be saved.
            TrainingError: the training of the network failed.
        """
        teacher = self._teacher(scenario)
        section = scenario.model
        local = baseline.name == LOCAL
        with _making(baseline.label):
            if local:
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
                bottleneck=None if local else baseline.name,
                bottleneck_arguments=baseline.options,
                rate=baseline.rate,
            )
            model = bundle.build(spec, teacher.network)
        _finish(model, baseline.label)
        cost = self._saved(model, spec)
        method = Method(spec.name, self._folder / spec.name, local)
        return Model(method, cost, teacher.history if local else ())

    def _taught(
        self, point: Scenario, name: str, model: SplitModel, teacher: Teacher, checkpoint: Checkpoint | None
    ) -> list[Epoch]:
        """Train the model by the scenario's recipe."""
        training = point.training
        with _making(name):
            recipe = recipes.find(training.recipe)
            hints = Hints(teacher.network, model.tail, point.model.cut, as_input(self._images.pixels[:1]))
        with self._display.task(f"training {name}", sum(training.epochs)) as task:
            lesson = Lesson(
                model=model,
                teacher=teacher.network,
                hints=hints,
                images=self._images,
                beta=point.model.bottleneck.beta or 0.0,
                epochs=training.epochs,
                batch_size=training.batch_size,
                learning_rates=training.learning_rates,
                generator=torch.Generator().manual_seed(self._seed),
                task=task,
                compute=self._compute,
                checkpoint=checkpoint,
            )
            return recipe(lesson)

    def _tail(
        self, point: Scenario, model: SplitModel, name: str, task: Task, identity: str
    ) -> tuple[Tail, Images]:
        """A second tail behind the model of this identity, and the test images with its labels."""
        dataset, training = self._dataset, point.training
        labels = torch.from_numpy(task.labels(dataset.x_train, dataset.y_train))
        label = f"{name}, {task.name}"
        with torch.random.fork_rng(), self._display.task(f"training {label}", training.epochs[-1]) as bar:
            torch.manual_seed(self._seed)
            tail = second_tail(
                model,
                task,
                Images(self._images.pixels, labels),
                epochs=training.epochs[-1],
                batch_size=training.batch_size,
                learning_rate=training.teacher_learning_rate,
                generator=torch.Generator().manual_seed(self._seed),
                progress_task=bar,
                compute=self._compute,
                checkpoint=self._checkpoint(
                    f"{name}-{task.name}-seed{self._seed}", identity_of(model=identity, task=task.name)
                ),
            )
        test = torch.from_numpy(dataset.x_test), torch.from_numpy(task.labels(dataset.x_test, dataset.y_test))
        return tail, Images(*test)

    def _remarks(self, model: SplitModel, method: str, level: int | None) -> tuple[str, ...]:
        """What is to be said of a model before it is measured."""
        if model.bottleneck is None or not model.bottleneck.learned:
            return ()
        remark = collapse_remark(method, model, as_input(evenly(self._images, SAMPLES)), level)
        if remark is None:
            return ()
        self._note(remark)
        return (remark,)

    def _teacher(self, scenario: Scenario) -> Teacher:
        with _making(scenario.model.backbone):
            return self._teachers.get(scenario)

    def _identity(self, point: Scenario, spec: ModelSpec, model: SplitModel, teacher: Teacher) -> str:
        """A name for everything that decides what the training of a point comes to."""
        return identity_of(
            version=__version__,
            spec=asdict(spec),
            code=code_of(model.bottleneck, teacher.network),
            training=point.training.model_dump(mode="json"),
            data=self._digest,
            teacher=teacher.digest,
            seed=self._seed,
            compute=[self._compute.device.type, self._compute.precision],
        )

    def _checkpoint(self, name: str, identity: str) -> Checkpoint | None:
        """The checkpoint of a training, if they are kept."""
        if self._checkpoints is None:
            return None
        return Checkpoint(self._checkpoints / f"{name}.checkpoint", identity, remark=self._note)

    def _note(self, remark: str) -> None:
        self._display.console.print(f"Note: {remark}.")

    def _saved(self, model: SplitModel, spec: ModelSpec) -> ModelCost:
        folder = self._folder / spec.name
        with _making(spec.name):
            bundle.save(model, spec, folder)
            device = bundle.load_device(folder)
            server = None if device.local else bundle.load_server(folder)
        return ModelCost(
            bottleneck=spec.bottleneck,
            learned=model.bottleneck is not None and model.bottleneck.learned,
            head_macs=device.macs,
            head_parameters=device.parameters,
            tail_macs=0 if server is None else server.macs,
            tail_parameters=0 if server is None else server.parameters,
            head_bytes=(folder / "device" / "weights.safetensors").stat().st_size,
            constant_bytes=0 if model.bottleneck is None else model.bottleneck.constant_bytes,
        )


def _rows(name: str, model: SplitModel, chosen: Sequence[int] | None) -> list[tuple[str, int | None]]:
    """The name of each row of a model, with the rate level at which it is measured.

    Raises:
        ValueError: a level that the bottleneck does not have.
    """
    bottleneck = model.bottleneck
    if bottleneck is None or (chosen is None and bottleneck.levels == 1):
        return [(name, None)]
    levels = range(bottleneck.levels) if chosen is None else map(bottleneck.check_level, chosen)
    return [(f"{name}-level{level}", level) for level in levels]


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
