"""Divergences between Gaussians in closed form, in bits, and the mass of a Gaussian in a bin."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bin_mass", "cauchy_schwarz", "kullback_leibler"]


def kullback_leibler(mean: Tensor, deviation: Tensor, prior_mean: Tensor, prior_deviation: Tensor) -> Tensor:
    """KL(N(mean, deviation^2) || N(prior_mean, prior_deviation^2)) in bits, elementwise.

    ``log(s / sigma) + (sigma^2 + (mu - m)^2) / (2 s^2) - 1/2``; all arguments are broadcast.
    """
    ratio = deviation / prior_deviation
    distance = (mean - prior_mean) / prior_deviation
    nats = (ratio.square() + distance.square() - 1) / 2 - ratio.log()
    return nats / math.log(2)


def cauchy_schwarz(mean: Tensor, deviation: Tensor, prior_mean: Tensor, prior_deviation: Tensor) -> Tensor:
    """Cauchy-Schwarz divergence of two Gaussians in bits, elementwise: symmetric, 0 where they are equal.

    ``D = -log((∫ p q)^2 / (∫ p^2 ∫ q^2))``, by ``∫ N(m, a) N(n, b) = N(m - n; 0, a + b)``:
    ``log((sigma^2 + s^2) / (2 sigma s)) + (mu - m)^2 / (sigma^2 + s^2)`` (Kampa, Hasanbelliu, Principe:
    "Closed-form Cauchy-Schwarz PDF divergence for mixture of Gaussians", IJCNN 2011). Where densities
    factorize, it is the sum over the factors. All arguments are broadcast.
    """
    total = deviation.square() + prior_deviation.square()
    nats = torch.log(total / (2 * deviation * prior_deviation)) + (mean - prior_mean).square() / total
    return nats / math.log(2)


def bin_mass(
    centre: Tensor, width: Tensor | float, mean: Tensor | float, deviation: Tensor | float
) -> Tensor:
    """Mass of N(mean, deviation^2) within ``width / 2`` of ``centre``, elementwise; precise in both tails."""
    distance, half = (centre - mean).abs(), width / 2
    return _cumulative((half - distance) / deviation) - _cumulative((-half - distance) / deviation)


def _cumulative(x: Tensor) -> Tensor:
    """The standard normal's cumulative; exact far into its lower tail."""
    return 0.5 * torch.erfc(-(2.0**-0.5) * x)
