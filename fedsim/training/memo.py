"""What frozen networks make of the training set, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedsim.training.loop import Batch, Images, as_input

__all__ = ["Memo"]

_CHUNK = 256  # samples at a time


class Memo:
    """Remembers ``compute(inputs)`` for every training sample, where that fits in memory.

    The images are not augmented, so a frozen network says the same of a sample in every epoch.

    Args:
        compute: from inputs [N, C, H, W] to tensors [N, ...], each sample by itself, without gradients.
        images: the training set.
        limit_bytes: beyond it nothing is kept and every batch is computed anew.
    """

    def __init__(
        self, compute: Callable[[Tensor], Sequence[Tensor]], images: Images, limit_bytes: int = 1 << 30
    ) -> None:
        self._compute = compute
        self._kept: list[Tensor] | None = None
        size = sum(value.nbytes for value in self._computed(as_input(images.pixels[:1])))
        if size * len(images) <= limit_bytes:
            parts = [
                self._computed(as_input(images.pixels[start : start + _CHUNK]))
                for start in range(0, len(images), _CHUNK)
            ]
            self._kept = [torch.cat(values) for values in zip(*parts, strict=True)]

    def __call__(self, batch: Batch) -> Sequence[Tensor]:
        """The tensors of a batch, each [n, ...]."""
        if self._kept is None:
            return self._computed(batch.inputs)
        return [values[batch.indices] for values in self._kept]

    def _computed(self, inputs: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            return self._compute(inputs)
