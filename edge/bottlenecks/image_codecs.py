"""Input codecs: the image itself is sent and the whole network runs on the server.

The honest baselines: each format with its optimised coder.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.bottlenecks.base import Bottleneck, PayloadError
from edge.bottlenecks.options import whole_number
from edge.bottlenecks.registry import register

__all__ = ["ImageCodec", "Jpeg", "Png", "RawImage", "WebP"]

_Image = NDArray[np.uint8]


class ImageCodec(Bottleneck):
    """Sends an image [C, H, W] of 1 or 3 channels as 8-bit pixels in some format.

    Features are images with values 0..1; a value stands for ``round(255 value)``.
    """

    domain = "image"

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape, output_shape)
        self.keep_shape()
        if len(self.input_shape) != 3 or self.input_shape[0] not in (1, 3):
            raise ValueError(f"needs images of shape (1 or 3, H, W), got {self.input_shape}")

    @abstractmethod
    def compress(self, image: _Image) -> bytes:
        """The payload of one image, uint8 [C, H, W]."""

    @abstractmethod
    def decompress(self, payload: bytes) -> _Image:
        """The image of one payload, uint8 [C, H, W].

        Raises:
            PayloadError: not an image of this format and shape.
        """

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The decompressed images (gradients pass straight through) and the coded size in bits."""
        payloads = self.encode(features.detach())
        reconstruction = features + (self.decode(payloads).to(features) - features).detach()
        return reconstruction, features.new_tensor([8.0 * len(p) for p in payloads])

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """One image file a sample."""
        pixels = (self.check_features(features) * 255).round().clamp(0, 255).to(torch.uint8)
        return [self.compress(image) for image in pixels.cpu().numpy()]

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """The images, float32 [N, C, H, W], values 0..1."""
        images = np.stack([self.decompress(payload) for payload in payloads])
        return torch.from_numpy(images).float() / 255


@register("raw-image")
class RawImage(ImageCodec):
    """8-bit pixels in C order, one byte each."""

    def compress(self, image: _Image) -> bytes:
        """The pixels."""
        return image.tobytes()

    def decompress(self, payload: bytes) -> _Image:
        """The pixels."""
        expected = int(np.prod(self.input_shape))
        if len(payload) != expected:
            raise PayloadError(f"payload of {len(payload)} bytes, expected {expected}")
        return np.frombuffer(payload, dtype=np.uint8).reshape(self.input_shape).copy()


class _PillowCodec(ImageCodec):
    """An image file format, by Pillow."""

    format: str

    def save_options(self) -> dict[str, Any]:
        """What is passed to Pillow's ``Image.save``."""
        return {}

    def compress(self, image: _Image) -> bytes:
        """An image file."""
        from PIL import Image  # noqa: PLC0415  (only what uses an image codec needs Pillow)

        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, self.format, **self.save_options())
        return buffer.getvalue()

    def decompress(self, payload: bytes) -> _Image:
        """The pixels of an image file of this format and the expected size."""
        from PIL import Image  # noqa: PLC0415

        channels, height, width = self.input_shape
        try:
            with Image.open(io.BytesIO(payload), formats=[self.format]) as image:
                if image.size != (width, height):  # before the pixels are decoded: no decompression bombs
                    raise PayloadError(f"{self.format} image of {image.size}, expected {(width, height)}")
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except PayloadError:
            raise
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            raise PayloadError(f"not a {self.format} image: {error}") from error
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

    @property
    def constant_bytes(self) -> int:
        """Size of a black image's file: headers, tables, and next to no pixels."""
        return len(self.compress(np.zeros(self.input_shape, dtype=np.uint8)))


@register("png")
class Png(_PillowCodec):
    """PNG, lossless, with the best of zlib."""

    format = "PNG"

    def save_options(self) -> dict[str, Any]:
        """Best compression."""
        return {"optimize": True}


@register("jpeg")
class Jpeg(_PillowCodec):
    """Baseline JPEG with optimised Huffman tables.

    Args:
        quality: 1 to 95.
    """

    format = "JPEG"

    def __init__(
        self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None, *, quality: int = 50
    ) -> None:
        super().__init__(input_shape, output_shape)
        self.quality = whole_number("quality", quality, 1, 95)

    def save_options(self) -> dict[str, Any]:
        """Quality, optimised tables."""
        return {"quality": self.quality, "optimize": True}


@register("webp")
class WebP(_PillowCodec):
    """Lossy WebP at the slowest, best setting (method 6).

    Args:
        quality: 0 to 100.
    """

    format = "WEBP"

    def __init__(
        self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None, *, quality: int = 50
    ) -> None:
        super().__init__(input_shape, output_shape)
        self.quality = whole_number("quality", quality, 0, 100)

    def save_options(self) -> dict[str, Any]:
        """Quality, method 6."""
        return {"quality": self.quality, "method": 6}
