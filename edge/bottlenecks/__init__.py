"""Bottlenecks: the contract, the registry, and the families (one file each)."""

from edge.bottlenecks import factorized, image_codecs, raw_features
from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, Shape
from edge.bottlenecks.latent import LatentBottleneck
from edge.bottlenecks.prior import FactorizedPrior
from edge.bottlenecks.registry import available, create, find, register

__all__ = [
    "Bottleneck",
    "FactorizedPrior",
    "LatentBottleneck",
    "NotFrozenError",
    "PayloadError",
    "Shape",
    "available",
    "create",
    "factorized",
    "find",
    "image_codecs",
    "raw_features",
    "register",
]
