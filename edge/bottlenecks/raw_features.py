"""Features sent as they are: float32, float16, n-bit integers. The baselines without learning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.bottlenecks.base import Bottleneck, PayloadError
from edge.bottlenecks.options import whole_number
from edge.bottlenecks.registry import register

__all__ = ["Float16", "Float32", "Integer"]


class _Floats(Bottleneck):
    """Values in a floating-point format, little endian, in C order."""

    dtype: np.dtype[Any]

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape, output_shape)
        self.keep_shape()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The rounded features (gradients pass straight through) and the constant size in bits."""
        rounded = torch.from_numpy(self._rounded(features).astype(np.float32))
        reconstruction = features + (rounded.to(features.device) - features).detach()
        size = 8.0 * self.dtype.itemsize * math.prod(self.input_shape)
        return reconstruction, features.new_full((len(features),), size)

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """``itemsize`` bytes a value. Values beyond the format's range saturate."""
        return [sample.tobytes() for sample in self._rounded(self.check_features(features))]

    def _rounded(self, features: Tensor) -> NDArray[Any]:
        limit = float(np.finfo(self.dtype).max)
        return features.detach().cpu().numpy().clip(-limit, limit).astype(self.dtype)

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """The values as float32 [N, *output_shape]."""
        expected = self.dtype.itemsize * math.prod(self.output_shape)
        samples = [np.frombuffer(_sized(p, expected), dtype=self.dtype) for p in payloads]
        features = np.stack(samples).reshape(-1, *self.output_shape).astype(np.float32)
        if not np.isfinite(features).all():
            raise PayloadError("payload holds values that are not finite")
        return torch.from_numpy(features)


@register("float32")
class Float32(_Floats):
    """Every value as IEEE 754 single precision: 4 bytes."""

    dtype = np.dtype("<f4")


@register("float16")
class Float16(_Floats):
    """Every value as IEEE 754 half precision: 2 bytes."""

    dtype = np.dtype("<f2")


@register("integer")
class Integer(Bottleneck):
    """Affine quantisation of each sample to ``bits``-bit integers, packed without gaps.

    ``q = round((x - minimum) / step)`` with ``step = (maximum - minimum) / (2 ** bits - 1)``; a
    payload is minimum and step (float32) and the packed integers (Jacob et al., CVPR 2018, with the
    range taken from the sample itself, so that nothing has to be calibrated).

    Args:
        bits: 1 to 16.
    """

    def __init__(
        self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None, *, bits: int = 8
    ) -> None:
        super().__init__(input_shape, output_shape)
        self.keep_shape()
        self.bits = whole_number("bits", bits, 1, 16)

    def wire_options(self) -> dict[str, Any]:
        """The number of bits of a value."""
        return {"bits": self.bits}

    @property
    def _values(self) -> int:
        return math.prod(self.output_shape)

    @property
    def _payload_size(self) -> int:
        return 8 + (self._values * self.bits + 7) // 8

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The quantised features (gradients pass straight through) and the constant size in bits."""
        flat = features.detach().flatten(1)
        minimum, maximum = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
        step = ((maximum - minimum) / (2**self.bits - 1)).clamp_min(torch.finfo(torch.float32).tiny)
        quantised = (torch.round((flat - minimum) / step) * step + minimum).view_as(features)
        reconstruction = features + (quantised - features).detach()
        return reconstruction, features.new_full((len(features),), 8.0 * self._payload_size)

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """8 bytes of range and ``bits`` bits a value."""
        return [self._encode_one(s) for s in self.check_features(features).flatten(1).cpu().numpy()]

    def _encode_one(self, values: NDArray[np.float32]) -> bytes:
        minimum = np.float32(values.min())
        # In double precision: the range of float32 values can be wider than float32 holds.
        widest = float(np.finfo(np.float32).max)
        step = np.float32(min(widest, (float(values.max()) - float(minimum)) / (2**self.bits - 1)))
        span = max(float(step), float(np.finfo(np.float32).tiny))
        levels = np.rint((values.astype(np.float64) - float(minimum)) / span).clip(0, 2**self.bits - 1)
        shifts = np.arange(self.bits - 1, -1, -1)
        bits = (levels.astype(np.uint32)[:, None] >> shifts) & 1
        return np.array([minimum, step], dtype="<f4").tobytes() + np.packbits(bits.astype(np.uint8)).tobytes()

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """The dequantised values as float32 [N, *output_shape]."""
        return torch.stack([self._decode_one(_sized(p, self._payload_size)) for p in payloads])

    def _decode_one(self, payload: bytes) -> Tensor:
        minimum, step = np.frombuffer(payload[:8], dtype="<f4").astype(np.float64)
        if not (np.isfinite(minimum) and np.isfinite(step) and step >= 0):
            raise PayloadError(f"payload with range start {minimum} and step {step}")
        bits = np.unpackbits(np.frombuffer(payload[8:], dtype=np.uint8), count=self._values * self.bits)
        levels = bits.reshape(-1, self.bits).astype(np.int64) @ (1 << np.arange(self.bits - 1, -1, -1))
        limit = float(np.finfo(np.float32).max)
        values = (minimum + levels * step).clip(-limit, limit).astype(np.float32)
        return torch.from_numpy(values.reshape(self.output_shape))


def _sized(payload: bytes, expected: int) -> bytes:
    if len(payload) != expected:
        raise PayloadError(f"payload of {len(payload)} bytes, expected {expected}")
    return payload
