"""Generalised divisive normalisation in the simplified form that supervised compression uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GDN1"]

_PEDESTAL = 2.0**-36


class GDN1(nn.Module):
    """``y = x / (beta + gamma |x|)``, or its inverse ``y = x (beta + gamma |x|)``.

    Simplified GDN with the L1 norm (Johnston et al. 2019, "Computationally efficient neural image
    compression"). Parameters are kept as the square roots of what they stand for, so that they stay
    positive under gradient steps, as in CompressAI's ``GDN1``, with whose state they agree.

    Args:
        channels: channels of x [N, channels, H, W].
        inverse: multiply instead of divide.
        beta_min: lower bound of beta.
        gamma_init: start of gamma's diagonal.
    """

    def __init__(
        self, channels: int, *, inverse: bool = False, beta_min: float = 1e-6, gamma_init: float = 0.1
    ) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta_floor = (beta_min + _PEDESTAL) ** 0.5
        self.gamma_floor = _PEDESTAL**0.5
        # Fills only: arithmetic on the meta device would load torch._dynamo, 70 MB, into a device process.
        self.beta = nn.Parameter(torch.full((channels,), (1 + _PEDESTAL) ** 0.5))
        gamma = torch.full((channels, channels), self.gamma_floor)
        self.gamma = nn.Parameter(gamma.fill_diagonal_((gamma_init + _PEDESTAL) ** 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, channels, H, W]; same shape."""
        beta = _at_least(self.beta, self.beta_floor) ** 2 - _PEDESTAL
        gamma = _at_least(self.gamma, self.gamma_floor) ** 2 - _PEDESTAL
        norm = F.conv2d(x.abs(), gamma[:, :, None, None], beta)
        return x * norm if self.inverse else x / norm


def _at_least(x: Tensor, bound: float) -> Tensor:
    bounded: Tensor = _LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded


class _LowerBound(torch.autograd.Function):
    """``max(x, bound)`` whose gradient passes wherever it leads back above the bound."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound  # type: ignore[attr-defined]
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        passes = (x >= ctx.bound) | (gradient < 0)  # type: ignore[attr-defined]
        return gradient * passes, None
