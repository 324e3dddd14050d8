"""What frozen networks make of the training set, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedsim.training.compute import Compute
from fedsim.training.loop import Batch, Images, as_input

__all__ = ["Memo"]

_CHUNK = 256  # samples at a time


class Memo:
    """Remembers ``compute(inputs)`` for every training sample, where that fits in memory.

    The images are not augmented, so a frozen network says the same of a sample in every epoch. Nothing
    is computed before the first batch asks. On a GPU the values stay there if they take at most half of
    what is free, or else in the machine's memory.

    Args:
        function: from inputs [N, C, H, W] to tensors [N, ...], each sample by itself, without gradients.
        images: the training set.
        limit_bytes: of the machine's memory; beyond it nothing is kept and every batch is computed anew.
        compute: where ``function`` computes; its layers run in that precision.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Sequence[Tensor]],
        images: Images,
        limit_bytes: int = 2 << 30,
        compute: Compute | None = None,
    ) -> None:
        self._function = function
        self._images = images
        self._limit_bytes = limit_bytes
        self._compute = compute or Compute()
        self._asked = False
        self._kept: list[Tensor] | None = None

    def __call__(self, batch: Batch) -> Sequence[Tensor]:
        """The tensors of a batch, each [n, ...]."""
        if not self._asked:
            self._asked = True
            self._kept = self._everything()
        if self._kept is None:
            return self._computed(batch.inputs)
        indices = batch.indices.to(self._kept[0].device)
        return [values[indices].to(self._compute.device) for values in self._kept]

    def _everything(self) -> list[Tensor] | None:
        """The tensors of all images, where there is room for them."""
        pixels, device = self._images.pixels, self._compute.device
        one = self._computed(as_input(pixels[:1].to(device)))
        size = sum(value.nbytes for value in one) * len(pixels)
        on_gpu = device.type == "cuda" and 2 * size <= torch.cuda.mem_get_info(device)[0]
        if not on_gpu and size > self._limit_bytes:
            return None
        place = device if on_gpu else torch.device("cpu")
        kept = [value.new_empty((len(pixels), *value.shape[1:]), device=place) for value in one]
        for start in range(0, len(pixels), _CHUNK):
            part = slice(start, start + _CHUNK)
            for whole, values in zip(kept, self._computed(as_input(pixels[part].to(device))), strict=True):
                whole[part] = values
        return kept

    def _computed(self, inputs: Tensor) -> Sequence[Tensor]:
        with torch.no_grad(), self._compute.autocast():
            return self._function(inputs)
