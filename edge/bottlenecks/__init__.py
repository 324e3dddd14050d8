"""Bottlenecks: the contract, the registry, and the families (one file each)."""

import importlib
import pkgutil

from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, Shape
from edge.bottlenecks.latent import LatentBottleneck
from edge.bottlenecks.prior import FactorizedPrior
from edge.bottlenecks.registry import (
    AmbiguousNameError,
    Origin,
    available,
    create,
    find,
    origin,
    origins,
    register,
)

__all__ = [
    "AmbiguousNameError",
    "Bottleneck",
    "FactorizedPrior",
    "LatentBottleneck",
    "NotFrozenError",
    "Origin",
    "PayloadError",
    "Shape",
    "available",
    "create",
    "find",
    "origin",
    "origins",
    "register",
]

# Families register themselves when they are imported; a new one is a new file here and nothing else.
for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
