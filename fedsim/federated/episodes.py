"""Episodes: small tasks of classes drawn at random, on which an embedding learns to tell classes apart.

Snell, Swersky, Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fedsim.errors import FederationError
from fedsim.training.loop import Images

__all__ = ["Episodes", "prototypical_loss", "prototypical_scores"]

_QUARTERS = 4  # turns of 90 degrees


@dataclass(frozen=True)
class Episodes:
    """Draws episodes.

    Args:
        images: to draw from.
        classes: that may be drawn.
        samples: of a class in an episode, support and queries together.
        rotations: every class turned by 90, 180 and 270 degrees is a class of its own (Santoro et al.,
            ICML 2016).
        shift: pixels by which a sample is moved at most, up or down and to a side, each time that it is
            drawn; what comes in at an edge is as the edge was.

    Raises:
        FederationError: a class with too few samples, or images that are not square and should be turned.
    """

    images: Images
    classes: Sequence[int]
    samples: int
    rotations: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        for one, members in zip(self.classes, self._members, strict=True):
            if len(members) < self.samples:
                found = f"base class {one} has {len(members)} samples"
                raise FederationError(f"pretraining: {found}, shots and queries need {self.samples}")
        height, width = self.images.pixels.shape[-2:]
        if self.rotations and height != width:
            raise FederationError(f"pretraining: images of {height}x{width} cannot be turned; no rotations")

    @property
    def ways(self) -> int:
        """Classes that there are to draw from, with those that rotations make."""
        return len(self.classes) * (_QUARTERS if self.rotations else 1)

    @cached_property
    def _members(self) -> list[Tensor]:
        return [torch.nonzero(self.images.labels == one).flatten() for one in self.classes]

    def draw(self, ways: int, generator: torch.Generator) -> Tensor:
        """Different samples of different classes.

        Args:
            ways: how many classes, at most :attr:`ways`.
            generator: draws them.

        Returns:
            uint8 [ways, samples, C, H, W].
        """
        drawn = torch.randperm(self.ways, generator=generator)[:ways]
        owners, turns = drawn % len(self.classes), drawn // len(self.classes)
        indices = []
        for owner in owners.tolist():
            members = self._members[owner]
            indices.append(members[torch.randperm(len(members), generator=generator)[: self.samples]])
        pixels = self.images.pixels[torch.stack(indices)]
        for turn in range(1, _QUARTERS if self.rotations else 1):
            turned = turns == turn
            pixels[turned] = torch.rot90(pixels[turned], turn, (-2, -1))
        return _moved(pixels, self.shift, generator) if self.shift else pixels


def _moved(pixels: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Images [ways, samples, C, H, W], each moved by so many pixels at most."""
    images = pixels.flatten(0, 1)
    height, width = images.shape[-2:]
    down, right = torch.randint(-most, most + 1, (2, len(images), 1), generator=generator)
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    each = torch.arange(len(images))[:, None, None]
    moved = images.movedim(1, -1)[each, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-1, 1).reshape(pixels.shape)


def prototypical_scores(features: Tensor, shots: int) -> tuple[Tensor, Tensor]:
    """How near every query is to the mean of every class's support.

    Minus the squared Euclidean distance, but for what all scores of a query have in common.

    Args:
        features: [ways, samples, d], of which the first ``shots`` of each class are the support.
        shots: fewer than samples.

    Returns:
        scores [ways * (samples - shots), ways], and the class of each query, int64.
    """
    ways, samples, dimension = features.shape
    prototypes = features[:, :shots].mean(1)
    queries = features[:, shots:].reshape(-1, dimension)
    scores = 2 * queries @ prototypes.T - prototypes.square().sum(1)
    labels = torch.arange(ways, device=features.device).repeat_interleave(samples - shots)
    return scores, labels


def prototypical_loss(features: Tensor, shots: int) -> tuple[Tensor, float]:
    """Cross-entropy of the queries (Snell et al., Equation 2), and how many of them are told rightly.

    Args:
        features: [ways, samples, d], of which the first ``shots`` of each class are the support.
        shots: fewer than samples.

    Returns:
        a scalar, and a share.
    """
    scores, labels = prototypical_scores(features, shots)
    right = (scores.detach().argmax(1) == labels).float().mean()
    return F.cross_entropy(scores, labels), float(right)
