"""Distances between points and prototypes, with gradients that are finite everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["closest_gap", "distances"]

_LEAST = 1e-12  # of a squared distance: the root of 0 has no gradient


def distances(points: Tensor, prototypes: Tensor) -> Tensor:
    """Euclidean distances [n, m] of points [n, d] from prototypes [m, d]."""
    squares = (points[:, None] - prototypes[None]).square().sum(2)
    return squares.clamp_min(_LEAST).sqrt()


def closest_gap(prototypes: Tensor) -> Tensor:
    """Distance [m] of each prototype [m, d] from the one next to it; infinite where it is alone."""
    apart = torch.cdist(prototypes, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.fill_diagonal_(torch.inf).min(1).values if len(prototypes) else apart.sum(1)
