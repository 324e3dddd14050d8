"""The samples that a device works on, as a safetensors file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["Samples", "SamplesError"]

_open: Callable[..., Any] = safe_open  # its methods have no annotations


class SamplesError(ValueError):
    """A file of samples that cannot be used. The message names the file, its fault and what is allowed."""


class Samples:
    """Images with their numbers and labels; an image is read when it is asked for.

    The file has ``images`` uint8 [N, C, H, W] and may have ``labels`` int64 [N] and ``ids`` int64
    [N], which number the samples (0 to 2**32 - 1, each once); without, they are numbered in order.

    Args:
        path: the file.
        shard: (i, n) takes every n-th sample from the i-th on.
        limit: at most this many of them.
        repeat: how often to go through them. Each pass has numbers of its own: those of the first
            pass plus a multiple of the highest number of the file plus one.

    Raises:
        SamplesError: a file, dtype, shape or number that is not as above, or no sample in this shard.
    """

    def __init__(
        self, path: Path, shard: tuple[int, int] = (0, 1), limit: int | None = None, repeat: int = 1
    ) -> None:
        self._path = path
        try:
            self._file = _open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise SamplesError(f"{path}: not a readable safetensors file: {error}") from error
        names = set(self._file.keys())
        if "images" not in names:
            raise SamplesError(f"{path}: has no 'images', only {sorted(names)}")
        self._images = self._file.get_slice("images")
        shape = self._images.get_shape()
        if self._images.get_dtype() != "U8" or len(shape) != 4:
            found = f"{self._images.get_dtype()}{shape}"
            raise SamplesError(f"{path}: 'images' is {found}, expected U8 (uint8) [N, C, H, W]")
        self._ids = self._column("ids", shape[0]) if "ids" in names else torch.arange(shape[0])
        self._labels = self._column("labels", shape[0]) if "labels" in names else None
        self._stride = int(self._ids.max()) + 1 if shape[0] else 0
        if shape[0] and (int(self._ids.min()) < 0 or len(set(self._ids.tolist())) < shape[0]):
            raise SamplesError(f"{path}: 'ids' are not all different and at least 0")
        if self._stride * repeat > 1 << 32:
            raise SamplesError(
                f"{path}: numbers up to {self._stride * repeat - 1}, allowed are up to {(1 << 32) - 1}"
            )
        self._rows = list(range(shard[0], shape[0], shard[1]))[:limit]
        if not self._rows:
            raise SamplesError(f"{path}: none of its {shape[0]} samples is in shard {shard[0]}/{shard[1]}")
        self._repeat = repeat
        #: Shape of one image, (C, H, W).
        self.shape: tuple[int, ...] = tuple(shape[1:])

    def _column(self, name: str, length: int) -> Tensor:
        column: Tensor = self._file.get_tensor(name)
        if column.dtype != torch.int64 or tuple(column.shape) != (length,):
            found = f"{column.dtype}{list(column.shape)}"
            raise SamplesError(f"{self._path}: {name!r} is {found}, expected torch.int64[{length}]")
        return column

    def __len__(self) -> int:
        return len(self._rows) * self._repeat

    def number(self, position: int) -> int:
        """The number of the sample at a position 0 .. len - 1."""
        turn, row = divmod(position, len(self._rows))
        return int(self._ids[self._rows[row]]) + turn * self._stride

    def label(self, position: int) -> int | None:
        """Its class; None if the file has no labels."""
        return None if self._labels is None else int(self._labels[self._row(position)])

    def image(self, position: int) -> Tensor:
        """Its image as a network takes it: float32 [1, C, H, W], values 0..1."""
        row = self._row(position)
        image: Tensor = self._images[row : row + 1]
        return image.float().div_(255.0)

    def _row(self, position: int) -> int:
        return self._rows[position % len(self._rows)]
