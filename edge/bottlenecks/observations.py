"""A bounded selection of what passes by, for what is fitted to data after training."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Observations"]


class Observations:
    """Keeps samples that lie evenly over all that were added, in bounded memory.

    Every ``stride``-th sample is kept; when the limit is reached every second of these is dropped and
    the stride doubles. So nothing is drawn at random, the selection does not depend on how the samples
    were cut into batches, and samples that come sorted by class do no harm.

    Args:
        samples: samples kept at most.
        values: values kept at most, over all samples (but one sample is always kept).
    """

    def __init__(self, samples: int = 4096, values: int = 1 << 24) -> None:
        self._samples = samples
        self._values = values
        self.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._kept: list[Tensor] = []
        self._stride = 1
        self._seen = 0

    def add(self, batch: Tensor) -> None:
        """Take note of the samples of ``batch`` [N, ...]."""
        for sample in batch.detach().cpu():
            if self._seen % self._stride == 0:
                self._keep(sample)
            self._seen += 1

    def _keep(self, sample: Tensor) -> None:
        limit = max(1, min(self._samples, self._values // max(1, sample.numel())))
        if len(self._kept) >= limit:
            del self._kept[1::2]
            self._stride *= 2
        if self._seen % self._stride == 0 and len(self._kept) < limit:
            self._kept.append(sample.clone())

    def stacked(self) -> Tensor:
        """The samples kept, [M, ...], in the order in which they came; at least one has to be there."""
        return torch.stack(self._kept)
