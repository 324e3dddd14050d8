"""Training of the uncut network: the teacher, and the baseline that every method is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedsim.progress import Task
from fedsim.training.checkpoint import Checkpoint
from fedsim.training.compute import Compute
from fedsim.training.loop import Batch, Epoch, Images, run_epochs
from fedsim.training.losses import task_loss

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
    compute: Compute | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Cross-entropy and Adam; the learning rate rises and falls once.

    Leaves the network in eval mode, on the CPU.
    """
    compute = compute or Compute()
    network.train().to(compute.device)
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)

    def step(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        with compute.autocast():
            logits = network(batch.inputs)
        loss = task_loss(logits, batch.labels)
        return loss, {"loss": float(loss.detach())}

    history = run_epochs(
        "classifier",
        network,
        images,
        step,
        optimiser,
        epochs=epochs,
        batch_size=batch_size,
        generator=generator,
        task=task,
        compute=compute,
        checkpoint=checkpoint,
    )
    network.eval().cpu()
    return history
