"""Networks with a prototype space: what clients of different backbones have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge import backbones
from edge.split import OUTPUT, cut, cuttable
from fedsim.errors import ModelError

__all__ = ["PrototypeNetwork", "prototype_network"]


class PrototypeNetwork(nn.Module):
    """An encoder into the prototype space, and a linear classifier behind it.

    ::

        images --encoder--> flatten --adapter--> features [n, d] --head--> logits [n, classes]

    Args:
        encoder: from images to anything [n, ...].
        width: values of a sample that it gives.
        classes: length of the logits.
        dimension: d; by default the encoder's own width, with no adapter. Clients of different backbones
            share prototypes through a linear adapter each (HtFLlib).
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int, dimension: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.dimension = width if dimension is None else dimension
        self.adapter: nn.Module = nn.Identity() if dimension is None else nn.Linear(width, dimension)
        self.head = nn.Linear(self.dimension, classes)

    def features(self, images: Tensor) -> Tensor:
        """Points of the prototype space [n, d] for images [n, C, H, W]."""
        points: Tensor = self.adapter(self.encoder(images).flatten(1))
        return points

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def prototype_network(
    backbone: str,
    arguments: Mapping[str, Any],
    image_shape: Sequence[int],
    classes: int,
    dimension: int | None = None,
) -> PrototypeNetwork:
    """A backbone whose last layers with parameters, its classifier, make room for a prototype space.

    Args:
        backbone: a name of :func:`edge.backbones.create`.
        arguments: of the backbone.
        image_shape: (C, H, W).
        classes: length of the logits.
        dimension: of the prototype space; by default what the backbone's classifier takes.

    Raises:
        ModelError: a network that cannot be made, or does not take the images.
    """
    try:
        network = backbones.create(backbone, **arguments)
        encoder = _encoder(network)
        with torch.no_grad():
            encoder.eval()
            width = encoder(torch.zeros(1, *image_shape)).flatten(1).shape[1]
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"backbone {backbone!r}: {error}") from error
    return PrototypeNetwork(encoder.train(), width, classes, dimension)


def _encoder(network: nn.Module) -> nn.Module:
    """All ahead of the classifier, which is a linear layer that nothing else to be trained stands behind."""
    for name in reversed(cuttable(network)):
        head, tail = cut(network, name)
        trained = [m for m in tail.modules() if list(m.parameters(recurse=False))]
        if trained:
            if len(trained) == 1 and isinstance(trained[0], nn.Linear):
                return head
            break
    return cut(network, OUTPUT)[0]
