"""What a recipe works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edge.bottlenecks import Bottleneck
from edge.split import SplitModel
from fedsim.progress import Task
from fedsim.training.checkpoint import Checkpoint
from fedsim.training.compute import Compute
from fedsim.training.hints import Hints
from fedsim.training.loop import Epoch, Images, Step, run_epochs

__all__ = ["Lesson"]


@dataclass(frozen=True)
class Lesson:
    """What a recipe works on.

    Args:
        model: the split model to train; its head and tail start with the teacher's weights.
        teacher: the uncut network, trained, in eval mode; its weights are never changed.
        hints: where student and teacher are compared.
        images: the training set.
        beta: weight of the rate, in units of the recipe's first loss a bit; 0 for a bottleneck whose rate
            is not weighed.
        epochs: epochs of each stage of the recipe.
        batch_size: samples a step.
        learning_rates: initial learning rate of each stage.
        generator: draws the batches; the noise comes from torch's global generator.
        task: shows the progress.
        compute: where, and in which precision.
        checkpoint: what keeps the training, and may have kept it before.
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
    compute: Compute = field(default_factory=Compute)
    checkpoint: Checkpoint | None = None

    @property
    def bottleneck(self) -> Bottleneck:
        """The model's bottleneck.

        Raises:
            TypeError: a model that runs whole on the device has none.
        """
        if self.model.bottleneck is None:
            raise TypeError("a recipe needs a model with a bottleneck")
        return self.model.bottleneck

    def features(self, inputs: Tensor) -> Tensor:
        """What the head makes of inputs [N, C, H, W], without gradients and in float32, as on the device."""
        with torch.no_grad(), self.compute.exactly():
            features: Tensor = self.model.head(inputs)
        return features

    def run(self, name: str, step: Step, optimiser: Optimizer, epochs: int) -> list[Epoch]:
        """Epochs over the lesson's images, in which the learning rate rises and falls once."""
        return run_epochs(
            name,
            self.model,
            self.images,
            step,
            optimiser,
            epochs=epochs,
            batch_size=self.batch_size,
            generator=self.generator,
            task=self.task,
            compute=self.compute,
            checkpoint=self.checkpoint,
        )
