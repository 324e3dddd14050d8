"""Scores of classes by their prototypes, and what becomes of them where only some classes are asked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from edge.prototypes import ClassStatistics

__all__ = ["nearest_prototype", "restricted"]


def nearest_prototype(features: Tensor, statistics: ClassStatistics, classes: int) -> Tensor:
    """Minus half the squared Euclidean distance to the nearest prototype of each class.

    Args:
        features: [n, d].
        statistics: of the classes that are known.
        classes: how many there may be.

    Returns:
        float32 [n, classes]; minus infinity for a class without a prototype.
    """
    scores = torch.full((len(features), classes), -torch.inf)
    if not len(statistics):
        return scores
    means = torch.from_numpy(statistics.means)
    centre = means.mean(0)  # far from zero, squares are large
    points, vectors = (features.double() - centre).float(), (means - centre).float()
    near = points @ vectors.T - vectors.square().sum(1) / 2 - points.square().sum(1, keepdim=True) / 2
    owners = torch.from_numpy(statistics.classes).expand(len(features), -1)
    return scores.scatter_reduce(1, owners, near, "amax")


def restricted(scores: Tensor, classes: ArrayLike) -> Tensor:
    """Scores [n, classes] in which only these classes can be chosen."""
    kept = torch.full_like(scores, -torch.inf)
    columns = torch.from_numpy(np.asarray(classes, dtype=np.int64))
    kept[:, columns] = scores[:, columns]
    return kept
