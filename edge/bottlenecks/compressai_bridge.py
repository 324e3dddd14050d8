"""The one module through which CompressAI is reached. Only training imports it."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from compressai.entropy_models import EntropyBottleneck

__all__ = ["entropy_bottleneck", "import_torchvision"]


@functools.cache
def import_torchvision() -> None:
    """Import torchvision, also where its compiled operators do not load.

    Beside a CPU-only torch, torchvision's CUDA wheel cannot load its library, and then fails on
    registering fake kernels for operators that nobody declared ("operator torchvision::nms does not
    exist"). Declaring their schemas cures it; the operators themselves are not used here. Where the
    library does load it declares them itself, and must not find them declared.

    Raises:
        ImportError: torchvision is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its image extension does not load either
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            for operator in _OPERATORS:
                _library().define(operator)  # type: ignore[no-untyped-call]
            importlib.import_module("torchvision")


_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def _library() -> torch.library.Library:
    """Owner of the declarations; they would vanish with it."""
    return torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def entropy_bottleneck(channels: int, scale: float) -> EntropyBottleneck:
    """CompressAI's factorized prior (Balle et al. 2018, appendix 6.1).

    Args:
        channels: one density for each.
        scale: width at which the densities start; the standard deviation of the code is a good one.
    """
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn about their own dependencies
        from compressai.entropy_models import EntropyBottleneck  # noqa: PLC0415
    return EntropyBottleneck(channels, init_scale=scale)
