"""Training of the uncut network: the teacher, and the baseline that every method is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsim.progress import Task
from fedsim.training.loop import Batch, Epoch, Images, milestones, run_epochs

__all__ = ["train_classifier"]


def train_classifier(
    network: nn.Module,
    images: Images,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    task: Task,
) -> list[Epoch]:
    """Cross-entropy, Adam, learning rate to a tenth at half and at four fifths of the epochs.

    Leaves the network in eval mode.
    """
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)

    def step(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        loss = F.cross_entropy(network(batch.inputs), batch.labels)
        return loss, {"loss": float(loss.detach())}

    history = run_epochs(
        "classifier",
        images,
        step,
        optimiser,
        epochs=epochs,
        batch_size=batch_size,
        decay_at=milestones(epochs, 0.5, 0.8),
        generator=generator,
        task=task,
    )
    network.eval()
    return history
