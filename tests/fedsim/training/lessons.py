"""Small lessons on real digits."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edge import backbones, bundle
from edge.bundle import ModelSpec
from fedsim import data
from fedsim.progress import Display
from fedsim.training.checkpoint import Checkpoint
from fedsim.training.classifier import train_classifier
from fedsim.training.compute import Compute
from fedsim.training.hints import Hints
from fedsim.training.lesson import Lesson
from fedsim.training.loop import Images, as_input

SMALL: dict[str, dict[str, Any]] = {
    "factorized": {"channels": 6, "encoder_channels": [12, 8]},
    "bottlefit": {"channels": 4},
    "channel": {"channels": 8, "encoder_channels": [12, 8]},
    "hyperprior": {"channels": 6, "encoder_channels": [12, 8]},
    "information": {"channels": 6},
    "mean-scale-hyperprior": {"channels": 6, "encoder_channels": [12, 8]},
    "variable-rate": {"channels": 6, "encoder_channels": [12, 8], "levels": 3},
    "vq": {"channels": 6, "encoder_channels": [12, 8], "codes": 16, "stages": 2},
    "key-value": {"codebooks": 4, "codes": 16, "key_dim": 4},
}


def digits() -> tuple[Images, Images]:
    """Images to train on, and images to look at; none of the test set."""
    dataset = data.load("digits")
    pixels, labels = torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train)
    return Images(pixels[:640], labels[:640]), Images(pixels[640:840], labels[640:840])


def trained_teacher(images: Images, epochs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    network = backbones.create("digits-cnn", widths=[8, 16, 24])
    with Display(quiet=True).task("teacher", epochs) as task:
        train_classifier(
            network,
            images,
            epochs=epochs,
            batch_size=64,
            learning_rate=6e-3,
            generator=torch.Generator().manual_seed(0),
            task=task,
        )
    return network.requires_grad_(False)


def lesson(
    teacher: nn.Module,
    images: Images,
    *,
    beta: float = 0.1,
    name: str = "factorized",
    at: tuple[str | None, str] = ("input", "stage2"),
    epochs: Sequence[int] = (6, 2),
    learning_rates: Sequence[float] = (8e-3, 2e-2),
    compute: Compute | None = None,
    checkpoint: Checkpoint | None = None,
) -> Lesson:
    """A lesson about a bottleneck between two layers, (entry, cut)."""
    entry, cut = at
    spec = ModelSpec(
        "m", "digits-cnn", {"widths": [8, 16, 24]}, cut, entry, (1, 8, 8), name, SMALL.get(name, {})
    )
    torch.manual_seed(1)
    model = bundle.build(spec, copy.deepcopy(teacher))
    with Display(quiet=True).task("student", sum(epochs)) as task:
        return Lesson(
            model=model,
            teacher=teacher,
            hints=Hints(teacher, model.tail, cut, as_input(images.pixels[:1])),
            images=images,
            beta=beta,
            epochs=epochs,
            batch_size=32 if len(images) < 100 else 64,
            learning_rates=learning_rates,
            generator=torch.Generator().manual_seed(1),
            task=task,
            compute=compute or Compute(),
            checkpoint=checkpoint,
        )


def payloads(student: Lesson, images: Images) -> list[bytes]:
    with torch.no_grad():
        return student.bottleneck.encode(student.model.head(as_input(images.pixels)))
