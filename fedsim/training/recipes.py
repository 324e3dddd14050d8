"""Training recipes by name: short functions of configured pieces, for any family and any backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedsim.training.lesson import Lesson
from fedsim.training.loop import Epoch
from fedsim.training.objectives import distillation, labels, teacher_hints
from fedsim.training.pieces import freeze, learn_code, tune_tail

__all__ = ["Recipe", "available", "bottlefit", "end_to_end", "entropic_student", "find"]


def entropic_student(lesson: Lesson) -> list[Epoch]:
    """Entropic Student: teacher hints with a rate term, then distillation behind a frozen encoder.

    Matsubara et al., WACV 2022. Stage 1 trains encoder, prior and decoder on
    ``sum over hint layers of |student - teacher|^2 + beta * bits`` with head and tail frozen. The
    prior then becomes integer tables, and stage 2 trains decoder and tail by distillation
    (T = 1, alpha = 1/2) on the rounded code. Payloads are the same before and after stage 2.

    What differs from the published schedule, so that it also works in few steps: the first tenth of
    stage 1 runs without the rate term, after which the prior starts at the scale that the code has
    found; the prior learns ten times as fast as the networks; its medians are found by bisection at
    the end and not by an auxiliary loss; the learning rate falls along a cosine (published: to a
    tenth after 5 and 8 of 10 epochs in stage 1, and after 5 in stage 2).
    """
    history = learn_code(lesson, stage=0, name="hints", objective=teacher_hints(lesson))
    freeze(lesson)
    return history + tune_tail(lesson, stage=1, name="distillation", objective=distillation(lesson))


def bottlefit(lesson: Lesson) -> list[Epoch]:
    """BottleFit: generalised head distillation, then the task's own loss behind a frozen encoder.

    Matsubara et al., WoWMoM 2022 ("GHND-FT" with a frozen encoder). Stage 1 is that of the Entropic
    Student, with the rate of a family that weighs it (the paper's own bottleneck does not); stage 2
    trains decoder and tail on cross-entropy with the labels, on the quantised code. As published,
    Adam and then SGD with momentum 0.9 and weight decay 5e-4; the schedule is that of
    :func:`entropic_student`.
    """
    history = learn_code(lesson, stage=0, name="hints", objective=teacher_hints(lesson))
    freeze(lesson)
    return history + tune_tail(lesson, stage=1, name="task", objective=labels(lesson))


def end_to_end(lesson: Lesson) -> list[Epoch]:
    """End to end: the task's loss and the rate, on encoder, prior, decoder and tail at once.

    Singh, Abu-El-Haija, Johnston, Balle, Shrivastava, Toderici: "End-to-end Learning of Compressible
    Features", ICIP 2020: ``cross-entropy + beta * bits``, so beta is in nats a bit. The paper trains
    the whole network from scratch; here the tail starts with the uncut network's weights, and a head
    ahead of the bottleneck keeps them. Warm-up and schedule are those of :func:`entropic_student`.
    """
    history = learn_code(lesson, stage=0, name="end-to-end", objective=labels(lesson), with_tail=True)
    freeze(lesson)
    return history


@dataclass(frozen=True)
class Recipe:
    """A recipe and what has to be known of it before it runs. Call it with a lesson.

    Args:
        name: as in a scenario.
        stages: names of its stages; each has its own epochs and learning rate.
        epochs: of each stage, where a scenario does not say.
        learning_rates: the same.
        teach: trains a lesson's model, freezes its bottleneck, and returns the history.
    """

    name: str
    stages: tuple[str, ...]
    epochs: tuple[int, ...]
    learning_rates: tuple[float, ...]
    teach: Callable[[Lesson], list[Epoch]]

    @property
    def title(self) -> str:
        """One line for people: the first of its documentation."""
        return (self.teach.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, lesson: Lesson) -> list[Epoch]:
        """Train the lesson's model; it and the teacher are on the CPU at the end.

        Raises:
            ValueError: another number of epochs or learning rates than of stages.
            TrainingError: the training cannot go on.
        """
        for what, values in (("epochs", lesson.epochs), ("learning_rates", lesson.learning_rates)):
            if len(values) != len(self.stages):
                raise ValueError(
                    f"recipe {self.name!r} has {len(self.stages)} stages ({', '.join(self.stages)}), "
                    f"but {what} are {list(values)}"
                )
        lesson.teacher.to(lesson.compute.device)
        try:
            with lesson.compute.repeatable():  # what runs between the epochs, too
                return self.teach(lesson)
        finally:
            lesson.teacher.cpu()
            lesson.model.cpu()


_RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("entropic-student", ("hints", "distillation"), (20, 10), (1e-3, 1e-3), entropic_student),
        Recipe("bottlefit", ("hints", "task"), (20, 10), (1e-3, 1e-3), bottlefit),
        Recipe("end-to-end", ("end-to-end",), (30,), (1e-3,), end_to_end),
    )
}


def available() -> dict[str, str]:
    """Every recipe with one line about it."""
    return {name: recipe.title for name, recipe in _RECIPES.items()}


def find(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        LookupError: unknown; lists the known ones.
    """
    if name not in _RECIPES:
        raise LookupError(f"unknown recipe {name!r}; known are {', '.join(_RECIPES)}")
    return _RECIPES[name]
