"""Second tails: another task from the same payloads.

::

    images --head, encoder--> payload --decoder, tail--> logits of the model's own task
                                 \\-----decoder', tail'--> another task's answers

The device neither knows nor cares: it sends the same bytes, whatever the server makes of them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edge.bottlenecks import Bottleneck
from edge.split import SplitModel
from fedsim import progress
from fedsim.data.tasks import Task
from fedsim.errors import TrainingError
from fedsim.measure.statistics import wilson_interval
from fedsim.training.checkpoint import Checkpoint
from fedsim.training.compute import Compute
from fedsim.training.loop import Batch, Images, as_input, run_epochs
from fedsim.training.losses import task_loss
from fedsim.training.memo import Memo
from fedsim.training.pieces import train_only

__all__ = ["Tail", "TaskResult", "second_tail", "with_outputs"]

_CHUNK = 256  # samples at a time


@dataclass(frozen=True)
class TaskResult:
    """How well a second tail does on test images, from the payloads that the model sends anyway."""

    name: str  #: of the task
    metric: Literal["accuracy", "r2"]
    value: float
    interval: tuple[float, float] | None  #: of 95 %; None for R^2
    payload_bytes: float  #: mean over the samples


@dataclass(frozen=True)
class Tail:
    """A decoder and a tail for another task, behind a model's encoder.

    Args:
        task: what it tells.
        model: whose payloads it reads.
        decoder: the model's bottleneck with a decoder of its own.
        tail: from decoded features to [N, outputs].
        scale: mean and deviation of the numbers that it was trained on; (0, 1) for classes.
    """

    task: Task
    model: SplitModel
    decoder: Bottleneck
    tail: nn.Module
    scale: tuple[float, float] = (0.0, 1.0)

    @torch.no_grad()
    def answers(self, payloads: list[bytes]) -> Tensor:
        """Classes int64 [N] or numbers float32 [N], from payloads alone."""
        outputs = self.tail(self.decoder.decode(payloads))
        if self.task.kind == "classification":
            return torch.as_tensor(outputs.argmax(1))
        mean, deviation = self.scale
        return torch.as_tensor(outputs.squeeze(1) * deviation + mean)

    @torch.no_grad()
    def evaluate(self, images: Images, level: int | None = None) -> TaskResult:
        """Encode, decode and compare.

        Args:
            images: with the task's labels.
            level: at which they are encoded; the highest by default.
        """
        bottleneck = _bottleneck_of(self.model)
        answers: list[Tensor] = []
        sizes: list[int] = []
        for start in range(0, len(images), _CHUNK):
            features = self.model.head(as_input(images.pixels[start : start + _CHUNK]))
            payloads = bottleneck.encode(features) if level is None else bottleneck.encode_at(features, level)
            sizes += map(len, payloads)
            answers.append(self.answers(payloads))
        found, size = torch.cat(answers), sum(sizes) / len(sizes)
        if self.task.kind == "classification":
            right, total = int((found == images.labels).sum()), len(images)
            return TaskResult(self.task.name, "accuracy", right / total, wilson_interval(right, total), size)
        return TaskResult(self.task.name, "r2", _r2(found.double(), images.labels.double()), None, size)


def second_tail(
    model: SplitModel,
    task: Task,
    images: Images,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    progress_task: progress.Task,
    compute: Compute | None = None,
    checkpoint: Checkpoint | None = None,
) -> Tail:
    """Train a tail for another task behind the frozen encoder of a model, which stays as it is.

    It starts as a copy of the model's own decoder and tail, the last layer anew at the task's size, and
    sees what the server would. Adam; the learning rate rises and falls once.
    Numbers are learnt as their distance from the training labels' mean in standard deviations.

    Args:
        model: trained, its bottleneck frozen.
        task: what the new tail is to tell.
        images: the training set, with the task's labels.
        epochs: passes over the images.
        batch_size: samples a step.
        learning_rate: the initial one.
        generator: draws the batches.
        progress_task: goes on by one step an epoch.
        compute: where, and in which precision; float32 on the CPU by default.
        checkpoint: what keeps the training, and may have kept it before.

    Raises:
        TrainingError: labels of a regression that are all the same, or a loss that is not finite.
    """
    compute = compute or Compute()
    bottleneck = _with_own_decoder(_bottleneck_of(model))
    with torch.no_grad():
        logits = model.transmit(as_input(images.pixels[:1]))
    tail = with_outputs(copy.deepcopy(model.tail), logits, task.outputs)
    student = SplitModel(model.head, bottleneck, tail)
    student.to(compute.device)
    decoder = getattr(bottleneck, "decoder", None)
    train_only(student, student.tail, *([decoder] if isinstance(decoder, nn.Module) else []))
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    labels, scale = _standardised(task, images.labels)
    standard = Images(images.pixels, labels)

    def features_of(inputs: Tensor) -> list[Tensor]:
        with compute.exactly():
            return [student.head(inputs)]

    frozen = Memo(features_of, standard, compute=compute)

    def step(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        reconstruction = bottleneck.rehearse(frozen(batch)[0]).to(compute.device)
        with compute.autocast():
            outputs = student.tail(reconstruction)
        loss = task_loss(outputs, batch.labels)
        return loss, {"loss": float(loss.detach())}

    run_epochs(
        task.name,
        student,
        standard,
        step,
        torch.optim.Adam(trained, learning_rate),
        epochs=epochs,
        batch_size=batch_size,
        generator=generator,
        task=progress_task,
        compute=compute,
        checkpoint=checkpoint,
    )
    student.eval().requires_grad_(False).cpu()
    return Tail(task, model, bottleneck, student.tail, scale)


def with_outputs(tail: nn.Module, logits: Tensor, outputs: int) -> nn.Module:
    """``tail`` with a fresh last layer of another size.

    Its last linear or 1x1 convolutional layer is replaced where that makes the logits; behind any other
    tail stands a linear layer of its own.

    Args:
        tail: changed in place where a layer is replaced.
        logits: what it makes of one sample, [1, classes].
        outputs: length of the new output.
    """
    classes = logits.shape[1]
    last = [
        (name, part) for name, part in tail.named_modules() if next(part.parameters(False), None) is not None
    ]
    name, layer = last[-1] if last else ("", None)
    fresh: nn.Module | None = None
    if isinstance(layer, nn.Linear) and layer.out_features == classes:
        fresh = nn.Linear(layer.in_features, outputs, bias=layer.bias is not None)
    elif (
        isinstance(layer, nn.Conv2d)
        and layer.out_channels == classes
        and (*layer.kernel_size, *layer.stride) == (1,) * 4
    ):
        fresh = nn.Conv2d(layer.in_channels, outputs, 1, bias=layer.bias is not None)
    if fresh is None:
        return nn.Sequential(tail, nn.Linear(classes, outputs))
    if not name:
        return fresh
    tail.set_submodule(name, fresh)
    return tail


def _with_own_decoder(bottleneck: Bottleneck) -> Bottleneck:
    """A bottleneck that has everything in common with another but for its decoder, which is a copy."""
    twin = copy.copy(bottleneck)
    decoder = getattr(bottleneck, "decoder", None)
    if isinstance(decoder, nn.Module):
        twin._modules = dict(bottleneck._modules)
        twin.decoder = copy.deepcopy(decoder)
    return twin


def _standardised(task: Task, labels: Tensor) -> tuple[Tensor, tuple[float, float]]:
    if task.kind == "classification":
        return labels, (0.0, 1.0)
    mean, deviation = float(labels.mean()), float(labels.std(correction=0))
    if not deviation:
        raise TrainingError(f"task {task.name!r}: all training labels are {mean:g}")
    return (labels - mean) / deviation, (mean, deviation)


def _r2(found: Tensor, expected: Tensor) -> float:
    """Coefficient of determination: 1 less the share of the variance that is left."""
    variance = float((expected - expected.mean()).square().sum())
    if not variance:
        raise TrainingError(f"all test labels are {float(expected[0]):g}: R^2 needs labels that differ")
    return 1 - float((found - expected).square().sum()) / variance


def _bottleneck_of(model: SplitModel) -> Bottleneck:
    if model.bottleneck is None:
        raise TypeError("a second tail needs a model with a bottleneck: without one nothing is sent")
    return model.bottleneck
