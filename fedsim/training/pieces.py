"""The pieces that recipes are made of: learn a code, freeze it, tune the tail behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from edge.bottlenecks import Bottleneck
from edge.split import SplitModel
from fedsim.errors import TrainingError
from fedsim.training.lesson import Lesson
from fedsim.training.loop import Batch, Epoch, Step, as_input, evenly
from fedsim.training.memo import Memo
from fedsim.training.objectives import Objective

__all__ = ["freeze", "learn_code", "train_only", "tune_tail"]

#: The prior starts far from a new code and has few parameters: it learns faster than the networks.
PRIOR_LEARNING_RATE_FACTOR = 10.0
#: Share of the first stage that runs without the rate term, to give the code its scale.
WARM_UP = 0.1
#: Training samples that a bottleneck observes before it is frozen.
OBSERVED = 4096
_CHUNK = 256  # samples at a time


def learn_code(
    lesson: Lesson, *, stage: int, name: str, objective: Objective, with_tail: bool = False
) -> list[Epoch]:
    """Train the bottleneck on ``objective + beta * rate + penalty``; head and tail stay as they are.

    The first tenth of the epochs runs without the rate, after which the bottleneck is calibrated at what
    its code has become by then. Adam; the prior learns ten times as fast.

    Args:
        lesson: whose model is trained.
        stage: which of the recipe's stages this is; gives epochs and learning rate.
        name: of the stage, in the history.
        objective: what the reconstruction is compared with.
        with_tail: train the tail as well.

    Raises:
        TrainingError: there is nothing to train, or the loss is not finite.
    """
    model, bottleneck = lesson.model, lesson.bottleneck
    bottleneck.prepare_training()
    model.to(lesson.compute.device)
    train_only(model, bottleneck, *([model.tail] if with_tail else []))
    epochs, rate = lesson.epochs[stage], lesson.learning_rates[stage]
    warm_up = min(epochs - 1, max(1, round(epochs * WARM_UP)))
    networks, priors = _parameters(model)
    if not networks:
        raise TrainingError(f"{name}: {type(bottleneck).__name__} says that it learns but has no parameters")

    frozen = _frozen(lesson, objective)
    history: list[Epoch] = []
    if warm_up:
        step = _rate_distortion(lesson, objective, frozen, beta=0.0)
        history += lesson.run(f"{name}, warm-up", step, torch.optim.Adam(networks, rate), warm_up)
    typical = as_input(evenly(lesson.images, 8 * lesson.batch_size).to(lesson.compute.device))
    with torch.no_grad():
        bottleneck.calibrate(lesson.features(typical))
    optimiser = torch.optim.Adam(networks, rate)
    if priors:
        optimiser.add_param_group({"params": priors, "lr": rate * PRIOR_LEARNING_RATE_FACTOR})
    step = _rate_distortion(lesson, objective, frozen, beta=lesson.beta)
    return history + lesson.run(name, step, optimiser, epochs - warm_up)


def freeze(lesson: Lesson) -> None:
    """Make everything that the payloads depend on final: on the CPU, in float32, as on the device."""
    model, bottleneck = lesson.model, lesson.bottleneck
    model.eval().requires_grad_(False).cpu()
    if lesson.checkpoint is not None and lesson.checkpoint.ahead:
        return  # the next stage will load what was frozen then
    if type(bottleneck).observe is not Bottleneck.observe:
        with torch.no_grad():
            pixels = evenly(lesson.images, OBSERVED)
            for start in range(0, len(pixels), _CHUNK):
                bottleneck.observe(model.head(as_input(pixels[start : start + _CHUNK])))
    bottleneck.freeze()


def tune_tail(lesson: Lesson, *, stage: int, name: str, objective: Objective) -> list[Epoch]:
    """Train decoder and tail on what is really sent; what makes the payloads stays as it is.

    SGD with momentum 0.9 and weight decay 5e-4.

    Args:
        lesson: whose model is trained; its bottleneck has been frozen.
        stage: which of the recipe's stages this is; gives epochs and learning rate.
        name: of the stage, in the history.
        objective: what the reconstruction is compared with.

    Raises:
        TrainingError: the loss is not finite.
    """
    model, bottleneck = lesson.model.to(lesson.compute.device), lesson.bottleneck
    decoder = getattr(bottleneck, "decoder", None)
    train_only(model, model.tail, *([decoder] if isinstance(decoder, nn.Module) else []))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    history: list[Epoch] = []
    if trained:
        optimiser = torch.optim.SGD(trained, lesson.learning_rates[stage], momentum=0.9, weight_decay=5e-4)
        frozen = _frozen(lesson, objective)

        def step(batch: Batch) -> tuple[Tensor, dict[str, float]]:
            features, *targets = frozen(batch)
            reconstruction = bottleneck.rehearse(features).to(lesson.compute.device)
            with lesson.compute.autocast():
                loss = objective.loss(reconstruction, targets, batch.labels)
            return loss, {"loss": float(loss.detach())}

        history += lesson.run(name, step, optimiser, lesson.epochs[stage])
    model.eval().requires_grad_(False).cpu()
    return history


def train_only(model: SplitModel, *parts: nn.Module) -> None:
    """Train these parts; everything else is frozen, its normalisation statistics too."""
    model.eval().requires_grad_(False)
    for part in parts:
        part.train().requires_grad_(True)


def _rate_distortion(lesson: Lesson, objective: Objective, frozen: Memo, *, beta: float) -> Step:
    def step(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        features, *targets = frozen(batch)
        reconstruction, bits, rate, penalty = lesson.bottleneck.training_pass(features)
        with lesson.compute.autocast():
            distortion = objective.loss(reconstruction, targets, batch.labels)
        loss = distortion + beta * rate.mean() + penalty.mean()
        figures = {"loss": loss, objective.figure: distortion, "bits": bits.mean(), "penalty": penalty.mean()}
        shown = {name: float(value.detach()) for name, value in figures.items()}
        if not shown["penalty"]:
            del shown["penalty"]
        return loss, shown

    return step


def _frozen(lesson: Lesson, objective: Objective) -> Memo:
    """The features of each image, and the objective's targets."""
    return Memo(
        lambda inputs: [lesson.features(inputs), *objective.targets(inputs)],
        lesson.images,
        compute=lesson.compute,
    )


def _parameters(model: SplitModel) -> tuple[list[Parameter], list[Parameter]]:
    """What is trained: the networks, and the priors. A prior's quantiles are found without training."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    named = [(name, p) for name, p in named if not name.endswith("quantiles")]
    priors = [p for name, p in named if ".prior." in name]
    return [p for name, p in named if ".prior." not in name], priors
