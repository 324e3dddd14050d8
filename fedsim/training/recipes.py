"""Training recipes by name. A recipe is a function of a :class:`Lesson`, whose model it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from edge.bottlenecks import Bottleneck
from edge.split import SplitModel
from fedsim.progress import Task
from fedsim.training.hints import Hints
from fedsim.training.loop import Batch, Epoch, Images, Step, as_input, milestones, run_epochs
from fedsim.training.losses import distillation, hint_distortion
from fedsim.training.memo import Memo

__all__ = ["Lesson", "Recipe", "available", "entropic_student", "entropic_student_stages", "find"]


@dataclass(frozen=True)
class Lesson:
    """What a recipe works on.

    Args:
        model: the split model to train; its head and tail start with the teacher's weights.
        teacher: the uncut network, trained, in eval mode; never changed.
        hints: where student and teacher are compared.
        images: the training set.
        beta: weight of the rate, in units of distortion a bit.
        epochs: epochs of each stage of the recipe.
        batch_size: samples a step.
        learning_rates: initial learning rate of each stage.
        generator: draws the batches; the noise comes from torch's global generator.
        task: shows the progress.
    """

    model: SplitModel
    teacher: nn.Module
    hints: Hints
    images: Images
    beta: float
    epochs: Sequence[int]
    batch_size: int
    learning_rates: Sequence[float]
    generator: torch.Generator
    task: Task

    @property
    def bottleneck(self) -> Bottleneck:
        """The model's bottleneck.

        Raises:
            TypeError: a model that runs whole on the device has none.
        """
        if self.model.bottleneck is None:
            raise TypeError("a recipe needs a model with a bottleneck")
        return self.model.bottleneck

    def run(
        self, stage: str, step: Step, optimiser: Optimizer, epochs: int, decay_at: Sequence[float]
    ) -> list[Epoch]:
        """Epochs over the lesson's images; the learning rate falls at the given fractions of them."""
        return run_epochs(
            stage,
            self.images,
            step,
            optimiser,
            epochs=epochs,
            batch_size=self.batch_size,
            decay_at=milestones(epochs, *decay_at),
            generator=self.generator,
            task=self.task,
        )


Recipe = Callable[[Lesson], list[Epoch]]

#: The prior starts far from a new code and has few parameters: it learns faster than the networks.
PRIOR_LEARNING_RATE_FACTOR = 10.0
#: Share of the first stage that runs without the rate term, to give the code its scale.
WARM_UP = 0.1


def entropic_student(lesson: Lesson) -> list[Epoch]:
    """Entropic Student: teacher hints with a rate term, then fine-tuning behind a frozen encoder.

    Matsubara et al., WACV 2022. Stage 1 trains encoder, prior and decoder on
    ``sum over hint layers of |student - teacher|^2 + beta * bits`` with head and tail frozen. The
    prior then becomes integer tables, and stage 2 trains decoder and tail by distillation
    (T = 1, alpha = 1/2) on the rounded code. Payloads are the same before and after stage 2.

    What differs from the published schedule, so that it also works in few steps: the first tenth of
    stage 1 runs without the rate term, after which the prior starts at the scale that the code has
    found; the prior learns ten times as fast as the networks; its medians are found by bisection at
    the end and not by an auxiliary loss; the learning rate falls to a tenth at half and at four
    fifths of stage 1 (published: after 5 and 8 of 10 epochs) and at half of stage 2.
    """
    first, second = entropic_student_stages(lesson)
    return first() + second()


def entropic_student_stages(
    lesson: Lesson,
) -> tuple[Callable[[], list[Epoch]], Callable[[], list[Epoch]]]:
    """The two stages of :func:`entropic_student`, to be run one after the other."""
    return lambda: _learn_code(lesson), lambda: _tune_tail(lesson)


def _learn_code(lesson: Lesson) -> list[Epoch]:
    """Stage 1, and the frequency tables at its end."""
    model, bottleneck = lesson.model, lesson.bottleneck
    bottleneck.prepare_training()
    _train_only(model, bottleneck)
    epochs, rate = lesson.epochs[0], lesson.learning_rates[0]
    warm_up = min(epochs - 1, max(1, round(epochs * WARM_UP)))

    frozen = Memo(lambda inputs: [model.head(inputs), *lesson.hints.of_images(inputs)], lesson.images)

    def step(beta: float) -> Step:
        def compute(batch: Batch) -> tuple[Tensor, dict[str, float]]:
            features, *targets = frozen(batch)
            reconstruction, bits = bottleneck(features)
            distortion = hint_distortion(lesson.hints.of_reconstruction(reconstruction), targets)
            mean_bits = bits.mean()
            loss = distortion + beta * mean_bits
            return loss, {"distortion": float(distortion.detach()), "bits": float(mean_bits.detach())}

        return compute

    history: list[Epoch] = []
    if warm_up:
        optimiser = torch.optim.Adam(_parameters(bottleneck, prior=False), rate)
        history += lesson.run("hints, warm-up", step(0.0), optimiser, warm_up, [])
        with torch.no_grad():
            bottleneck.calibrate(model.head(as_input(lesson.images.pixels[: 8 * lesson.batch_size])))
    optimiser = torch.optim.Adam(_parameters(bottleneck, prior=False), rate)
    if prior := _parameters(bottleneck, prior=True):
        optimiser.add_param_group({"params": prior, "lr": rate * PRIOR_LEARNING_RATE_FACTOR})
    history += lesson.run("hints", step(lesson.beta), optimiser, epochs - warm_up, (0.5, 0.8))
    model.eval()
    bottleneck.freeze()
    return history


def _tune_tail(lesson: Lesson) -> list[Epoch]:
    """Stage 2: decoder and tail; what makes the payloads stays as it is."""
    model, bottleneck = lesson.model, lesson.bottleneck
    decoder = getattr(bottleneck, "decoder", None)
    _train_only(model, model.tail, *([decoder] if decoder is not None else []))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lesson.learning_rates[1], momentum=0.9, weight_decay=5e-4)

    frozen = Memo(lambda inputs: [model.head(inputs), lesson.teacher(inputs)], lesson.images)

    def step(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        features, teacher_logits = frozen(batch)
        logits = model.tail(bottleneck.transmit(features))
        loss = distillation(logits, teacher_logits, batch.labels)
        return loss, {"loss": float(loss.detach())}

    history = lesson.run("distillation", step, optimiser, lesson.epochs[1], (0.5,))
    model.eval().requires_grad_(False)
    return history


def _parameters(bottleneck: Bottleneck, *, prior: bool) -> list[Parameter]:
    """Parameters of the prior, or all others. Its quantiles are found by bisection, not by training."""
    named = [(n, p) for n, p in bottleneck.named_parameters() if not n.endswith("quantiles")]
    return [p for n, p in named if n.startswith("prior.") == prior]


def _train_only(model: SplitModel, *parts: nn.Module) -> None:
    """Train these parts; everything else is frozen, its normalisation statistics too."""
    model.eval().requires_grad_(False)
    for part in parts:
        part.train().requires_grad_(True)


_RECIPES: dict[str, Recipe] = {"entropic-student": entropic_student}


def available() -> dict[str, str]:
    """Every recipe with the first line of its documentation."""
    return {name: (recipe.__doc__ or "").strip().splitlines()[0] for name, recipe in _RECIPES.items()}


def find(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        LookupError: unknown; lists the known ones.
    """
    if name not in _RECIPES:
        raise LookupError(f"unknown recipe {name!r}; known are {', '.join(_RECIPES)}")
    return _RECIPES[name]
