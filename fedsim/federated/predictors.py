"""Scores of classes by a head, and what becomes of scores where only some classes are asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fedsim.federated.networks import PrototypeNetwork
from fedsim.training.loop import as_input

__all__ = ["by_head", "restricted"]

_CHUNK = 512  # images at a time


@torch.no_grad()
def by_head(network: PrototypeNetwork, images: Tensor) -> Tensor:
    """Logits [n, classes] of a network in evaluation mode for images uint8 [n, C, H, W]."""
    return torch.cat([network(as_input(part)) for part in torch.split(images, _CHUNK)])


def restricted(scores: Tensor, classes: ArrayLike) -> Tensor:
    """Scores [n, classes] in which only these classes can be chosen."""
    kept = torch.full_like(scores, -torch.inf)
    columns = torch.from_numpy(np.asarray(classes, dtype=np.int64))
    kept[:, columns] = scores[:, columns]
    return kept
