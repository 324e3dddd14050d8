"""An n-bit affine quantiser whose range is fitted to data after training."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from edge.bottlenecks.options import whole_number

__all__ = ["AffineQuantiser"]


class AffineQuantiser(nn.Module):
    """``q = round(x / scale + zero_point)``, held to ``0 .. 2 ** bits - 1``, for a whole tensor.

    Jacob et al.: "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", CVPR 2018, equation 1: ``x = scale (q - zero_point)``. There the zero point is one of
    the ``q``, so that padding with zeros is exact; here nothing is padded with values, so it is any
    real number and the smallest and largest value of the range are met exactly, which is what counts
    with few bits.

    Args:
        bits: 1 to 8.
    """

    scale: Tensor  #: [], 0 until it is fitted
    zero_point: Tensor  #: []

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = whole_number("bits", bits, 1, 8)
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("zero_point", torch.zeros(()))

    @property
    def top(self) -> int:
        """The largest symbol, ``2 ** bits - 1``."""
        return (1 << self.bits) - 1

    @property
    def fitted(self) -> bool:
        """Whether there is a range."""
        return float(self.scale) > 0

    @torch.no_grad()
    def fit(self, values: Tensor, percentile: float = 100.0) -> None:
        """Set the range from ``values`` of any shape.

        Args:
            percentile: the range ends at this percentile and starts at ``100 - percentile``; at 100 it
                is that of the smallest and the largest value.

        Raises:
            ValueError: a value that is not finite.
        """
        flat = values.flatten().double().cpu().numpy()
        if not np.isfinite(flat).all():
            raise ValueError("the encoder made values that are not finite, to which no range can be fitted")
        low, high = (float(end) for end in np.percentile(flat, [100.0 - percentile, percentile]))
        scale = np.float32((high - low) / self.top)
        if not 0 < scale < math.inf:  # a constant needs no steps
            scale = np.float32(1.0)
        self.scale.fill_(float(scale))
        self.zero_point.fill_(-low / float(scale))

    def symbols(self, values: Tensor) -> Tensor:
        """Whole numbers ``0 .. top`` as float64, same shape.

        Raises:
            ValueError: a value that is not a number.
        """
        levels = torch.round(values.detach().double() / self.scale.double() + self.zero_point.double())
        if bool(levels.isnan().any()):
            raise ValueError("the encoder made values that are not numbers")
        return levels.clamp(0, self.top)

    def values(self, symbols: Tensor) -> Tensor:
        """What symbols, whole numbers of any type, stand for: float32, same shape."""
        offset = symbols.to(self.scale.device).double() - self.zero_point.double()
        return (offset * self.scale.double()).to(self.scale.dtype)
