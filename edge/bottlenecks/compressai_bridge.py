"""The one module through which CompressAI is reached. Only training imports it."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from compressai.entropy_models import EntropyBottleneck

__all__ = ["declare_torchvision_operators", "entropy_bottleneck"]


@functools.cache
def declare_torchvision_operators() -> None:
    """Let ``import torchvision`` succeed where its compiled operators do not load.

    Beside a CPU-only torch, torchvision's CUDA wheel cannot load its library, and then fails on
    registering fake kernels for operators that nobody declared ("operator torchvision::nms does not
    exist"). Declaring the schemas first cures it; the operators themselves are not used here.
    """
    for name, arguments in {
        "nms": "Tensor dets, Tensor scores, float iou_threshold",
        "qnms": "Tensor dets, Tensor scores, float iou_threshold",
    }.items():
        try:
            # The fragment has to outlive this call: its operators vanish with it.
            _fragments.append(torch.library.Library("torchvision", "FRAGMENT"))  # type: ignore[no-untyped-call]
            _fragments[-1].define(f"{name}({arguments}) -> Tensor")  # type: ignore[no-untyped-call]
        except RuntimeError:  # declared already, by a torchvision whose operators do load
            _fragments.pop()


_fragments: list[torch.library.Library] = []


def entropy_bottleneck(channels: int, scale: float) -> EntropyBottleneck:
    """CompressAI's factorized prior (Balle et al. 2018, appendix 6.1).

    Args:
        channels: one density for each.
        scale: width at which the densities start; the standard deviation of the code is a good one.
    """
    declare_torchvision_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn about their own dependencies
        from compressai.entropy_models import EntropyBottleneck  # noqa: PLC0415
    return EntropyBottleneck(channels, init_scale=scale)
