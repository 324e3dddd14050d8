"""The few lines that every recipe shares: batches, epochs, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from fedsim.errors import TrainingError
from fedsim.progress import Task

__all__ = ["Batch", "Epoch", "Images", "Step", "accuracy", "as_input", "batches", "milestones", "run_epochs"]


@dataclass(frozen=True)
class Images:
    """Labelled images in memory.

    Args:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Batch:
    """Some of the images, as a network takes them.

    Args:
        inputs: float 0..1 [n, C, H, W].
        labels: int64 [n].
        indices: which images they are, int64 [n].
    """

    inputs: Tensor
    labels: Tensor
    indices: Tensor


#: A batch to the loss to minimise and the figures to show.
Step = Callable[[Batch], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: batch means of the figures that the step reported."""

    stage: str
    epoch: int
    figures: dict[str, float]


def as_input(pixels: Tensor) -> Tensor:
    """Pixels uint8 as the network input, float 0..1."""
    return pixels.float() / 255


def batches(images: Images, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """One shuffled pass."""
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(images), size):
        indices = order[start : start + size]
        yield Batch(as_input(images.pixels[indices]), images.labels[indices], indices)


def milestones(epochs: int, *fractions: float) -> list[int]:
    """Epochs at which the learning rate falls to a tenth, as fractions of a schedule."""
    return [max(1, round(epochs * fraction)) for fraction in fractions]


def run_epochs(
    stage: str,
    images: Images,
    step: Step,
    optimiser: Optimizer,
    *,
    epochs: int,
    batch_size: int,
    decay_at: list[int],
    generator: torch.Generator,
    task: Task,
) -> list[Epoch]:
    """Minimise what ``step(batch)`` returns, and record its figures.

    Raises:
        TrainingError: the loss is not finite; names the stage and the epoch.
    """
    scheduler = MultiStepLR(optimiser, decay_at, gamma=0.1)
    history = []
    for epoch in range(epochs):
        totals: dict[str, float] = {}
        for batch in batches(images, batch_size, generator):
            optimiser.zero_grad()
            loss, figures = step(batch)
            if not bool(torch.isfinite(loss)):
                value = float(loss.detach())
                raise TrainingError(
                    f"{stage}: the loss is {value:g} in epoch {epoch + 1}; lower the learning rate"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + value * len(batch.indices) / len(images)
        scheduler.step()
        history.append(Epoch(stage, epoch + 1, totals))
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
