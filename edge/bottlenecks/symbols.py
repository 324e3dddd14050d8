"""Symbols of code values: the rounding that every learned family does, and how many a table may hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["MAX_HALF_WIDTH", "nearest_symbols"]

#: Symbols that a table may have on each side of zero; what lies outside is escaped.
MAX_HALF_WIDTH = 4096

_INT32 = np.iinfo(np.int32)


def nearest_symbols(values: Tensor) -> Tensor:
    """The nearest integers, those halfway to even, as float64 of the same shape.

    Values beyond int32 saturate: they count as the nearest int32. What is no number stays none.
    """
    return torch.round(values.double()).clamp(_INT32.min, _INT32.max)
