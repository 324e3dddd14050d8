"""The few lines that every recipe shares: batches, epochs, accuracy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fedsim.errors import TrainingError
from fedsim.progress import Task
from fedsim.training.checkpoint import Checkpoint, Epoch, Stage
from fedsim.training.compute import Compute

__all__ = [
    "Batch",
    "Epoch",
    "Images",
    "Step",
    "accuracy",
    "as_input",
    "batches",
    "evenly",
    "one_cycle",
    "run_epochs",
]


@dataclass(frozen=True)
class Images:
    """Labelled images in memory.

    Args:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N]; float32 [N] where a number is to be told of an image and not a class.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Batch:
    """Some of the images, as a network takes them.

    Args:
        inputs: float 0..1 [n, C, H, W], where the training computes.
        labels: [n], there too.
        indices: which images they are, int64 [n], on the CPU.
    """

    inputs: Tensor
    labels: Tensor
    indices: Tensor


#: A batch to the loss to minimise and the figures to show.
Step = Callable[[Batch], tuple[Tensor, dict[str, float]]]


def as_input(pixels: Tensor) -> Tensor:
    """Pixels uint8 as the network input, float 0..1."""
    return pixels.float() / 255


def batches(
    images: Images, size: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """One shuffled pass; only the batch itself is moved to the device.

    A last batch of one is joined to the one before it: batch normalisation has nothing to say of one value.
    """
    order = torch.randperm(len(images), generator=generator)
    for start, end in itertools.pairwise(_bounds(len(images), size)):
        indices = order[start:end]
        pixels, labels = images.pixels[indices].to(device), images.labels[indices].to(device)
        yield Batch(as_input(pixels), labels, indices)


def _bounds(count: int, size: int) -> list[int]:
    """Where batches of ``size`` begin in ``count`` samples, and the end of the last."""
    bounds = [*range(0, count, size), count]
    if len(bounds) > 2 and size > 1 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return bounds


def evenly(images: Images, count: int) -> Tensor:
    """Pixels of at most ``count`` images, evenly spread over all."""
    if len(images) <= count:
        return images.pixels
    return images.pixels[torch.arange(count) * len(images) // count]


def one_cycle(step: int, steps: int) -> float:
    """Share of the learning rate at a step: up in a line over the first tenth, then down half a cosine.

    Loshchilov, Hutter: "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, without
    restarts; with the warm-up of Goyal et al. 2017.

    Args:
        step: from 0.
        steps: in all.
    """
    rising = max(1, steps // 10)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def run_epochs(
    stage: str,
    model: nn.Module,
    images: Images,
    step: Step,
    optimiser: Optimizer,
    *,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    task: Task,
    compute: Compute | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Minimise what ``step(batch)`` returns, and record its figures.

    Args:
        stage: names the epochs.
        model: holds everything that the steps change.
        images: the training set.
        step: from a batch to the loss and the figures to show.
        optimiser: of the parameters to train; its learning rates go through :func:`one_cycle`.
        epochs: passes over the images.
        batch_size: samples a step.
        generator: draws the batches.
        task: goes on by one step an epoch.
        compute: where the batches go; the CPU by default.
        checkpoint: what keeps the training, and may have kept it before.

    Raises:
        TrainingError: the loss is not finite; names the stage and the epoch.
    """
    compute = compute or Compute()
    steps = epochs * (len(_bounds(len(images), batch_size)) - 1)
    scheduler = LambdaLR(optimiser, partial(one_cycle, steps=steps))
    kept = Stage(model, optimiser, scheduler, generator)
    history = checkpoint.begin(kept) if checkpoint is not None else []
    for past in history:
        task.advance(past.figures)
    with compute.repeatable():
        for epoch in range(len(history), epochs):
            totals: dict[str, float] = {}
            for batch in batches(images, batch_size, generator, compute.device):
                optimiser.zero_grad()
                loss, figures = step(batch)
                if not bool(torch.isfinite(loss)):
                    value = float(loss.detach())
                    raise TrainingError(
                        f"{stage}: the loss is {value:g} in epoch {epoch + 1}; lower the learning rate"
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                scheduler.step()
                for name, value in figures.items():
                    totals[name] = totals.get(name, 0.0) + value * len(batch.indices) / len(images)
            history.append(Epoch(stage, epoch + 1, totals))
            if checkpoint is not None:
                checkpoint.epoch_ended(kept, history, last=epoch + 1 == epochs)
            task.advance(totals)
    return history


@torch.inference_mode()
def accuracy(predict: Callable[[Tensor], Tensor] | nn.Module, images: Images, batch_size: int = 512) -> float:
    """Share of the images whose largest logit is the label's."""
    right = 0
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        right += int((predict(as_input(images.pixels[part])).argmax(1) == images.labels[part]).sum())
    return right / len(images)
