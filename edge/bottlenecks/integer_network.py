"""A small network that, once frozen, gives the same integers on every machine.

Balle, Johnston, Minnen: "Integer Networks for Data Compression with Latent-Variable Models", ICLR 2019:
what an entropy coder's tables are chosen by has to be computed without rounding errors, for a single
table index that differs between sender and receiver makes the rest of a payload undecodable. A network
here is trained in floating point; frozen, its weights are integers and so is every intermediate result.

Why no machine can compute it otherwise: values are integers of at most :data:`LIMIT`, weights are int16,
and no accumulator reaches 2^53 (checked when the weights are made). All products and all partial sums
are then exact in float64, so neither their order nor fused operations matter. Matrix products are spelt
out (columns, then ``fold``), since a convolution may choose an algorithm with fractional coefficients.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FRACTION_BITS", "LIMIT", "IntegerNetwork", "Layer"]

#: A value x stands in fixed point as the integer ``x * 2**FRACTION_BITS``, rounded.
FRACTION_BITS = 10
#: Values saturate at this size, 16384 as a number; integers up to it are exact in float32, too.
LIMIT = 1 << 24

_LARGEST_WEIGHT = 2**15 - 1
_LARGEST_SHIFT = 24
_EXACT = 1 << 53  # integers below it are exact in float64


class Layer(NamedTuple):
    """A transposed convolution with bias, from ``size`` to ``out_size``; padded by half its kernel."""

    channels: int
    out_channels: int
    kernel: int
    stride: int
    size: tuple[int, int]
    out_size: tuple[int, int]

    def trainable(self) -> nn.ConvTranspose2d:
        """It, in floating point."""
        padding = self.kernel // 2
        # What a stride leaves open: both 2n - 1 and 2n lead to n when halved.
        shortest = [(n - 1) * self.stride - 2 * padding + self.kernel for n in self.size]
        rest = (self.out_size[0] - shortest[0], self.out_size[1] - shortest[1])
        return nn.ConvTranspose2d(
            self.channels, self.out_channels, self.kernel, self.stride, padding, output_padding=rest
        )


class IntegerNetwork(nn.Module):
    """Transposed convolutions with ReLU between them: trained in floating point, run on integers.

    Args:
        layers: one after the other.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.trained: nn.Sequential | None = None
        for number, layer in enumerate(self.layers):
            shape = (layer.channels, layer.out_channels, layer.kernel, layer.kernel)
            self.register_buffer(f"weight{number}", torch.zeros(shape, dtype=torch.int16))
            self.register_buffer(f"bias{number}", torch.zeros(layer.out_channels, dtype=torch.int64))
            self.register_buffer(f"shift{number}", torch.zeros(layer.out_channels, dtype=torch.int64))

    # --- training ---------------------------------------------------------------------------

    def prepare_training(self) -> None:
        """Attach the floating-point network, which does not ship; idempotent."""
        if self.trained is None:
            parts = [layer.trainable() for layer in self.layers]
            between = [nn.ReLU() for _ in parts[1:]]
            woven = [m for pair in itertools.zip_longest(parts, between) for m in pair if m is not None]
            self.trained = nn.Sequential(*woven).to(self.get_buffer("weight0").device)

    def forward(self, x: Tensor) -> Tensor:
        """The network in floating point: [N, channels, *size] to [N, out_channels, *out_size]."""
        result: Tensor = self._trained()(x)
        return result

    @property
    def last(self) -> nn.ConvTranspose2d:
        """The last layer in floating point."""
        return self._convolutions()[-1]

    def _convolutions(self) -> list[nn.ConvTranspose2d]:
        return [module for module in self._trained() if isinstance(module, nn.ConvTranspose2d)]

    def _trained(self) -> nn.Sequential:
        if self.trained is None:
            raise RuntimeError("this network has nothing to train: call prepare_training() first")
        return self.trained

    @torch.no_grad()
    def freeze(self) -> None:
        """Make the integer weights from the floating-point ones.

        Each output channel gets the power of two that makes best use of int16 and keeps its
        accumulators below 2^53.

        Raises:
            RuntimeError: :meth:`prepare_training` has not been called.
            ValueError: weights that are not finite or beyond what can be represented.
        """
        for number, trained in enumerate(self._convolutions()):
            weight, bias = trained.weight.double(), cast(Tensor, trained.bias).double()
            if not bool(torch.isfinite(weight).all() and torch.isfinite(bias).all()):
                raise ValueError(f"layer {number} has weights that are not finite")
            largest = weight.abs().amax((0, 2, 3)).tolist()
            total = weight.abs().sum((0, 2, 3)).tolist()
            shifts = [_shift(*channel) for channel in zip(largest, total, bias.abs().tolist(), strict=True)]
            if min(shifts) < 0:
                channel = shifts.index(min(shifts))
                raise ValueError(
                    f"layer {number}, channel {channel}: its largest weight is {largest[channel]:g}, "
                    f"the sum of all {total[channel]:g}, its bias {float(bias[channel]):g}: too large"
                )
            shift = torch.tensor(shifts, device=weight.device)
            unit = torch.tensor([2.0**s for s in shifts], dtype=torch.float64, device=weight.device)
            self.get_buffer(f"weight{number}").copy_((weight * unit[:, None, None]).round())
            self.get_buffer(f"bias{number}").copy_((bias * unit * 2.0**FRACTION_BITS).round())
            self.get_buffer(f"shift{number}").copy_(shift)
            reached = self.bound(number)
            if reached >= _EXACT:
                raise ValueError(f"layer {number} adds up to {reached}, beyond what float64 holds exactly")

    def bound(self, number: int) -> int:
        """What no accumulator of a layer exceeds in size, whatever comes in."""
        weight = self.get_buffer(f"weight{number}").long().abs().sum((0, 2, 3))
        half = (1 << self.get_buffer(f"shift{number}")) >> 1
        return int((weight * LIMIT + self.get_buffer(f"bias{number}").abs() + half).max())

    # --- running ----------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, values: Tensor) -> Tensor:
        """The frozen network on integers.

        Args:
            values: fixed point, int64 [N, channels, *size]; saturated at :data:`LIMIT`.

        Returns:
            fixed point, int64 [N, out_channels, *out_size], at most :data:`LIMIT` in size.
        """
        for number in range(len(self.layers)):
            if number:
                values = values.clamp_min(0)
            values = self._layer(number, values.clamp(-LIMIT, LIMIT))
        return values.clamp(-LIMIT, LIMIT)

    def _layer(self, number: int, values: Tensor) -> Tensor:
        """One layer: matrix product and fold in float64, all on integers; then rounding by a shift."""
        layer = self.layers[number]
        weight = self.get_buffer(f"weight{number}").flatten(1).double()
        columns = weight.T @ values.transpose(0, 1).flatten(1).double()  # all samples side by side
        columns = columns.view(len(columns), len(values), -1).transpose(0, 1)
        padding = layer.kernel // 2
        sums = F.fold(columns, layer.out_size, layer.kernel, padding=padding, stride=layer.stride).long()
        shift = self.get_buffer(f"shift{number}").view(-1, 1, 1)
        bias = self.get_buffer(f"bias{number}").view(-1, 1, 1)
        return (sums + bias + ((1 << shift) >> 1)) >> shift

    def digest(self) -> str:
        """SHA-256, in hex, of all that the integers come from."""
        digest = hashlib.sha256(repr((FRACTION_BITS, LIMIT, self.layers)).encode())
        for _, buffer in self.named_buffers():
            digest.update(buffer.detach().cpu().long().numpy().astype("<i8").tobytes())
        return digest.hexdigest()


def _shift(largest: float, total: float, bias: float) -> int:
    """The most bits by which a channel's weights can be shifted up; negative if they are too large.

    Half of what float64 holds is left for rounding the weights up.
    """
    room = min(
        _LARGEST_WEIGHT / max(largest, 1e-30),
        _EXACT / 2 / max(total * LIMIT + bias * 2**FRACTION_BITS, 1e-30),
    )
    return min(math.floor(math.log2(room)), _LARGEST_SHIFT)
