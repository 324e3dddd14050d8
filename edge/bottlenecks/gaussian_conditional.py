"""The Gaussian conditional: codes under normal densities whose width is known to both sides.

The width of each value is one of :data:`LEVELS` widths, spaced evenly on a logarithmic scale from
:data:`NARROWEST` to :data:`WIDEST` (the table of CompressAI and SC2). A level is what two peers have to
agree on; it comes out of integer arithmetic, and there is a frequency table for each.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from edge.bottlenecks.gaussians import bin_mass
from edge.coding import FrequencyTables

__all__ = ["LEVELS", "NARROWEST", "STEP", "WIDEST", "bits", "scale_of", "tables"]

LEVELS = 64
NARROWEST, WIDEST = 0.11, 256.0
#: Difference in ln(scale) from one level to the next.
STEP = math.log(WIDEST / NARROWEST) / (LEVELS - 1)

_TAIL_MASS = 2.0**-20  # probability outside a table's support on each side; it is escaped
_LEAST_LIKELIHOOD = 1e-9


def scale_of(level: Tensor) -> Tensor:
    """Standard deviation at a level of the scale table, float; also between two levels.

    Levels beyond the ends count as the ends; a gradient passes there only if it leads back inside.
    """
    inside: Tensor = _Within.apply(level, 0.0, float(LEVELS - 1))  # type: ignore[no-untyped-call]
    return NARROWEST * (STEP * inside).exp()


def bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Information of values that were rounded, or got uniform noise instead, about their means.

    The density is a normal one convolved with the unit interval (Balle et al. 2018, equation 8 and
    appendix 6.2). As in CompressAI, no likelihood counts as less than 1e-9.

    Args:
        residual: values less their means, any shape.
        scale: their standard deviations, the same shape.

    Returns:
        bits, the same shape.
    """
    bounded: Tensor = _Within.apply(bin_mass(residual, 1.0, 0.0, scale), _LEAST_LIKELIHOOD, math.inf)  # type: ignore[no-untyped-call]
    return -bounded.log2()


def tables() -> FrequencyTables:
    """The frequency table of each level, for symbols about a mean of zero."""
    quantile = -NormalDist().inv_cdf(_TAIL_MASS)
    masses, offsets = [], []
    for level in range(LEVELS):
        scale = NARROWEST * math.exp(STEP * level)
        half_width = math.ceil(quantile * scale)
        symbols = torch.arange(-half_width, half_width + 1, dtype=torch.float64)
        masses.append(np.asarray(bin_mass(symbols, 1.0, 0.0, scale).numpy(), dtype=np.float64))
        offsets.append(-half_width)
    return FrequencyTables.from_probabilities(masses, offsets)


class _Within(torch.autograd.Function):
    """``clamp(x, low, high)`` whose gradient passes outside, too, wherever it leads back inside."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high  # type: ignore[attr-defined]
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        above = (x >= ctx.low) | (gradient < 0)  # type: ignore[attr-defined]
        below = (x <= ctx.high) | (gradient > 0)  # type: ignore[attr-defined]
        return gradient * (above & below), None, None
