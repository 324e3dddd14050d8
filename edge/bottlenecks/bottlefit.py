"""BottleFit: a channel-reduction bottleneck with an affine quantiser behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks.affine import AffineQuantiser
from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, Shape
from edge.bottlenecks.observations import Observations
from edge.bottlenecks.options import real_number, two_widths, whole_number
from edge.bottlenecks.registry import register
from edge.coding import CodingError, EntropyCoder, FrequencyTables
from edge.coding.packing import pack, unpack
from edge.graphs import modes_set

__all__ = ["BottleFit"]

_STRIDES = {1: (1, 1, 1), 2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2)}


@register("bottlefit")
class BottleFit(Bottleneck):
    """The layers of BottleFit, quantised to a few bits a value after they are trained (CR+BQ).

    ::

        encoder  Conv k7 s p3 -> BN -> ReLU -> MaxPool k3 s p1 -> BN -> ReLU -> Conv k2 s p1   (no biases)
        decoder  BN -> ReLU -> Conv k2 p1 -> BN -> ReLU -> Conv k2 p1 -> BN -> ReLU -> Conv k2
                 -> BN -> ReLU -> Conv k2 -> AvgPool k2 s1                                     (no biases)

    Matsubara, Callegaro, Singh, Levorato, Restuccia: "BottleFit: Learning Compressed Representations in
    Deep Neural Networks for Effective and Efficient Split Computing", WoWMoM 2022 (second version of the
    bottleneck for ResNet-152). The published strides 2, 2, 2 lead to an eighth of the input's side; for a
    quarter, a half and the same side the last strides are left out. The code has a side one longer than the
    output's: at 224 it is channels x 29 x 29, 841 bytes a channel at 8 bits.

    Channel reduction and quantisation (CR+BQ in Matsubara et al., WACV 2022) is this bottleneck. The
    quantiser knows nothing of training: until :meth:`freeze` the code goes through unquantised; then its
    range is fixed from the codes observed. The rate is set by ``channels`` and ``bits``, not by a loss.

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4, 8; default the input shape.
        channels: channels of the code (1 to 12 in the paper).
        bits: bits of a quantised value, 1 to 8 (8 in the paper).
        entropy_coding: code the quantised values with a range coder, on one table a channel: the histogram
            of the observed codes, every symbol counted once more. Else they are packed, ``bits`` bits each.
        percentile: the quantiser's range ends at this percentile of the observed codes and starts at
            ``100 - percentile``; 100 is from the smallest to the largest.
        widths: channels of the encoder's and the decoder's hidden layers; (64, 512) in the paper, 64 and
            the output's where they are not given.

    Raises:
        ValueError: an option out of its range, or shapes between which these layers cannot lead.
    """

    learned = True
    rate_weighted = False

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        channels: int = 12,
        bits: int = 8,
        entropy_coding: bool = False,
        percentile: float = 100.0,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_shape, output_shape)
        self.channels = whole_number("channels", channels, 1)
        if not isinstance(entropy_coding, bool):
            raise ValueError(f"entropy_coding is {entropy_coding!r}, allowed are true and false")
        self.percentile = real_number(
            "percentile", percentile, lambda p: 50 < p <= 100, "numbers above 50 and up to 100"
        )
        strides = _strides(self.input_shape, self.output_shape)
        hidden, wide = two_widths("widths", widths if widths is not None else (64, self.output_shape[0]))
        self.entropy_coding = entropy_coding
        self.encoder = _encoder(self.input_shape, strides, hidden, channels)
        self.decoder = _decoder(channels, wide, self.output_shape[0])
        self.quantiser = AffineQuantiser(bits)
        self.code_shape: Shape = (channels, self.output_shape[1] + 1, self.output_shape[2] + 1)
        self._observed = Observations()
        self._coder: EntropyCoder | None = None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and bits [N].

        Before :meth:`freeze` from the code as it is, at ``bits`` bits a value; after it from the quantised
        code (gradients pass straight through), at the size of its symbols.
        """
        code = self.encoder(features)
        bits = code.new_full((len(features),), float(self._packed_bits), dtype=torch.float32)
        if self.quantiser.fitted:
            symbols = self.quantiser.symbols(code)
            if self.entropy_coding:
                bits = self._information(symbols).to(bits)
            code = code + (self.quantiser.values(symbols) - code).detach()
        return self.decoder(code), bits

    def transmit(self, features: Tensor) -> Tensor:
        """Reconstruction from the quantised code; gradients reach the decoder only.

        Raises:
            NotFrozenError: the quantiser has no range yet.
        """
        self._check_frozen()
        code = self.quantiser.values(self.quantiser.symbols(self._code(features)))
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def encode(self, features: Tensor) -> list[bytes]:
        """One payload a sample, of ``channels x (H' + 1) x (W' + 1)`` symbols: packed, or entropy-coded."""
        self._check_frozen()
        self.check_features(features)
        # One at a time: a convolution may round otherwise in another batch, and the payload with it.
        return [self._payload(self.quantiser.symbols(self._code(sample[None]))[0]) for sample in features]

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape]."""
        self._check_frozen()
        symbols = np.stack([self._symbols(payload) for payload in payloads])
        code = self.quantiser.values(torch.from_numpy(symbols)).view(-1, *self.code_shape)
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def ideal_bits(self, payload: bytes) -> float:
        """``bits`` bits a symbol, or the symbols' information under the frozen tables."""
        symbols = self._symbols(payload)
        if self._coder is None:
            return float(self._packed_bits)
        return float(self._coder.tables.bits(symbols).sum())

    def observe(self, features: Tensor) -> None:
        """Take note of the codes of ``features``, of 4096 samples at most (fewer of large codes)."""
        self._observed.add(self._code(features))

    def freeze(self) -> None:
        """Fit the quantiser's range, and with an entropy coder the tables, to the codes observed.

        Raises:
            RuntimeError: nothing has been observed since the last time.
        """
        if not len(self._observed):
            raise RuntimeError("nothing to fit the quantiser to: call observe(features) before freeze()")
        codes = self._observed.stacked()
        self.quantiser.fit(codes, self.percentile)
        if self.entropy_coding:
            symbols = self.quantiser.symbols(codes.to(self.quantiser.scale.device)).cpu().numpy()
            self.load_tables(_histogram_tables(symbols.astype(np.int64), self.quantiser.top + 1))
        self._observed.clear()

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, once frozen, with entropy coding."""
        return None if self._coder is None else self._coder.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model.

        Raises:
            TypeError: without entropy coding there are none.
            ValueError: another number of channels.
        """
        if not self.entropy_coding:
            raise TypeError("bottlefit without entropy_coding has no frequency tables")
        if tables.channels != self.channels:
            raise ValueError(f"{tables.channels} frequency tables for {self.channels} channels")
        self._coder = EntropyCoder(tables)

    def wire_options(self) -> dict[str, Any]:
        """What, beside the tables, turns a payload into a code."""
        return {
            "code_shape": self.code_shape,
            "bits": self.quantiser.bits,
            "entropy_coding": self.entropy_coding,
            "scale": float(self.quantiser.scale).hex(),
            "zero_point": float(self.quantiser.zero_point).hex(),
        }

    @property
    def _packed_bits(self) -> int:
        return math.prod(self.code_shape) * self.quantiser.bits

    def _check_frozen(self) -> None:
        if not self.quantiser.fitted or (self.entropy_coding and self._coder is None):
            raise NotFrozenError(
                "the quantiser has no range yet: call observe() and freeze() after training, or load them"
            )

    @torch.no_grad()
    def _code(self, features: Tensor) -> Tensor:
        """Codes [N, *code_shape] under the encoder's learned statistics, whatever its mode is."""
        with modes_set(self.encoder, False):
            code: Tensor = self.encoder(features)
        return code

    def _payload(self, symbols: Tensor) -> bytes:
        rows = symbols.flatten(1).cpu().numpy().astype(np.int32)
        return pack(rows, self.quantiser.bits) if self._coder is None else self._coder.encode(rows)

    def _symbols(self, payload: bytes) -> NDArray[np.int32]:
        """Symbols int32 [channels, n] of one payload."""
        try:
            if self._coder is None:
                flat = unpack(payload, self.quantiser.bits, math.prod(self.code_shape))
                return flat.reshape(self.channels, -1)
            symbols = self._coder.decode(payload, math.prod(self.code_shape[1:]))
        except CodingError as error:
            raise PayloadError(str(error)) from error
        if symbols.min() < 0 or symbols.max() > self.quantiser.top:
            raise PayloadError(
                f"symbols of {symbols.min()} to {symbols.max()}, expected 0 to {self.quantiser.top}"
            )
        return symbols

    def _information(self, symbols: Tensor) -> Tensor:
        """Bits [N] of symbols [N, channels, ...] under the tables, float64."""
        self._check_frozen()
        assert self._coder is not None
        rows = symbols.transpose(0, 1).flatten(1).cpu().numpy().astype(np.int32)
        bits = self._coder.tables.bits(rows).reshape(self.channels, len(symbols), -1)
        return torch.from_numpy(bits.sum((0, 2)))


def _histogram_tables(symbols: NDArray[np.int64], size: int) -> FrequencyTables:
    """One table a channel: how often symbols [N, channels, ...] are each of ``0 .. size - 1``, plus one."""
    rows = np.moveaxis(symbols, 1, 0).reshape(symbols.shape[1], -1)
    counts = [np.bincount(row, minlength=size) + 1.0 for row in rows]
    return FrequencyTables.from_probabilities([count / count.sum() for count in counts], [0] * len(counts))


def _encoder(input_shape: Shape, strides: tuple[int, int, int], hidden: int, channels: int) -> nn.Sequential:
    first, second, third = strides
    before_last = [-(-side // (first * second)) for side in input_shape[1:]]
    # Odd sides are filled up at the end, so that the code always has a side one longer than the output's.
    missing = [side % third for side in before_last]
    fill = [nn.ZeroPad2d((0, missing[1], 0, missing[0]))] if any(missing) else []
    return nn.Sequential(
        nn.Conv2d(input_shape[0], hidden, 7, first, 3, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.MaxPool2d(3, second, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        *fill,
        nn.Conv2d(hidden, channels, 2, third, 1, bias=False),
    )


def _decoder(channels: int, wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        *_activated(channels, wide, padding=1),
        *_activated(wide, wide, padding=1),
        *_activated(wide, wide, padding=0),
        *_activated(wide, out, padding=0),
        nn.AvgPool2d(2, 1),
    )


def _activated(channels: int, out: int, padding: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, 2, padding=padding, bias=False)
    return [nn.BatchNorm2d(channels), nn.ReLU(), convolution]


def _strides(input_shape: Shape, output_shape: Shape) -> tuple[int, int, int]:
    """Strides of the three strided layers that lead from one side length to the other."""
    if len(input_shape) != 3 or len(output_shape) != 3:
        raise ValueError(f"needs shapes (C, H, W), got {input_shape} and {output_shape}")
    for ratio, strides in _STRIDES.items():
        if all(-(-i // ratio) == o for i, o in zip(input_shape[1:], output_shape[1:], strict=True)):
            return strides
    raise ValueError(
        f"cannot lead from {input_shape} to {output_shape}: the sides have to be in the ratio 1, 2, 4 or 8"
    )
