"""One model, many rates: gain units about a factorized prior, the level chosen for each sample.

::

    features --encoder--> code --x gains[l]--> round --symbols--> entropy coder[l] --> l, stream    device
    reconstruction <--decoder-- code <--x inverse_gains[l]-- symbols + offsets[l] <--           server
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, TrainingPass
from edge.bottlenecks.gained_prior import GainedPrior
from edge.bottlenecks.options import real_number, whole_number
from edge.bottlenecks.registry import register
from edge.bottlenecks.student_layers import student_layers
from edge.coding import CodingError, EntropyCoder, FrequencyTables

__all__ = ["VariableRateBottleneck"]


@register("variable-rate")
class VariableRateBottleneck(Bottleneck):
    """Gain units: each level multiplies the code's channels by its own gains before they are rounded.

    Cui, Wang, Gao, Guo, Feng, Bai: "Asymmetric Gained Deep Image Compression With Continuous Rate
    Adaptation", CVPR 2021: gain vectors m_l and inverse gain vectors m'_l, learned for each of the levels
    between which training draws. The layers are those of :mod:`edge.bottlenecks.student_layers`.

    Training weighs the rate of level l with ``span ** ((levels - 1 - l) / (levels - 1))``: the recipe's beta
    is that of the highest level, and the lowest is trained with ``span`` times it. A level's gains start at
    the inverse square root of its weight, the best step of a fine quantiser: its distortion grows with the
    square of the step, its rate falls with the logarithm. Levels are drawn alike and their losses added as
    they are: dividing those of low rates, which are larger, by the square root of their weight moved the
    levels' own losses by a few percent, up or down, on digits.

    A payload is one byte for the level and one stream of the range coder. The levels share one density,
    that of the code before the gains (see :class:`edge.bottlenecks.gained_prior.GainedPrior`).

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4; default the input shape.
        channels: channels of the code.
        encoder_channels: widths of the encoder's two hidden layers.
        decoder_channels: widths of the decoder's two hidden layers.
        levels: 2 to 256 rates.
        span: beta of the lowest level over that of the highest, more than 1.

    Raises:
        ValueError: shapes between which these layers cannot lead, or an option out of its range.
    """

    learned = True

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        channels: int = 24,
        encoder_channels: Sequence[int] | None = None,
        decoder_channels: Sequence[int] | None = None,
        levels: int = 8,
        span: float = 32.0,
    ) -> None:
        super().__init__(input_shape, output_shape)
        self._levels = whole_number("levels", levels, 2, 256)
        span = real_number("span", span, lambda ratio: ratio > 1, "numbers of more than 1")
        layers = student_layers(
            self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
        )
        self.encoder, self.decoder, self.code_shape = layers
        self.weights = [span ** ((levels - 1 - level) / (levels - 1)) for level in range(levels)]
        self.gains = nn.Parameter(torch.tensor([[w**-0.5] * channels for w in self.weights]))
        self.inverse_gains = nn.Parameter(torch.tensor([[w**0.5] * channels for w in self.weights]))
        self.prior = GainedPrior(channels)
        self._tables: FrequencyTables | None = None
        self._coders: list[EntropyCoder] = []

    @property
    def levels(self) -> int:
        """As many as was asked for."""
        return self._levels

    # --- training ---------------------------------------------------------------------------

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction from the noisy code, and bits [N], at the highest level."""
        return self._noisy(features, torch.full((len(features),), self.levels - 1, device=features.device))

    def training_pass(self, features: Tensor) -> TrainingPass:
        """As :meth:`forward` at a level drawn for each sample; the rate is its bits times its weight."""
        level = self._drawn(features)
        reconstruction, bits = self._noisy(features, level)
        weight = torch.tensor(self.weights, device=features.device)[level]
        return TrainingPass(reconstruction, bits, weight * bits, torch.zeros_like(bits))

    def rehearse(self, features: Tensor) -> Tensor:
        """What the server would see at a level drawn for each sample; gradients reach the decoder only."""
        return self._received(features, self._drawn(features))

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Start the prior at the spread that the code has by now."""
        self.prior.fit_scale(self.encoder(features))

    def freeze(self) -> None:
        """Make the frequency tables of all levels from the one learned density."""
        self.load_tables(self.prior.tables_of(self._gains()))

    def _noisy(self, features: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(features)
        gained, bits = self.prior(code, _spread(self._gains()[level], code))
        return self.decoder(gained * _spread(self.inverse_gains[level], code)), bits

    def _drawn(self, features: Tensor) -> Tensor:
        return torch.randint(self.levels, (len(features),), device=features.device)

    def _gains(self) -> Tensor:
        """The gains, held away from zero: all that uses them takes them from here."""
        return self.gains.clamp_min(1e-4)

    # --- running ----------------------------------------------------------------------------

    def transmit(self, features: Tensor) -> Tensor:
        """As :meth:`transmit_at` at the highest level."""
        return self.transmit_at(features, self.levels - 1)

    def transmit_at(self, features: Tensor, level: int) -> Tensor:
        """Reconstruction from the rounded code; gradients reach the decoder only.

        Raises:
            ValueError: no such level.
        """
        self.check_level(level)
        return self._received(features, torch.full((len(features),), level, device=features.device))

    def _received(self, features: Tensor, level: Tensor) -> Tensor:
        with torch.no_grad():
            code = self.encoder(features)
            symbols = self.prior.rounded(code, _spread(self._gains()[level], code))
            code = self._dequantised(symbols, level)
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def _dequantised(self, symbols: Tensor, level: Tensor) -> Tensor:
        """Code values [N, channels, ...] of symbols of that shape and levels [N]: the server's share."""
        gains, inverse = self._gains()[level], self.inverse_gains[level]
        offsets = gains * self.prior.medians
        return (symbols.to(inverse.dtype) + _spread(offsets, symbols)) * _spread(inverse, symbols)

    def encode(self, features: Tensor) -> list[bytes]:
        """As :meth:`encode_at` at the highest level."""
        return self.encode_at(features, self.levels - 1)

    @torch.no_grad()
    def encode_at(self, features: Tensor, level: int) -> list[bytes]:
        """One payload a sample: a byte for the level, then the coded symbols.

        Raises:
            NotFrozenError: the frequency tables have not been made.
            ValueError: no such level, a wrong shape, or a value that is not finite.
        """
        self.check_level(level)
        if not self._coders:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        self.check_features(features)
        coder, gains = self._coders[level], self._gains()[level].view(1, -1, 1, 1)
        payloads = []
        for sample in features:  # one at a time: a convolution may round otherwise in another batch
            symbols = self.prior.rounded(self.encoder(sample[None]), gains)[0].flatten(1)
            if bool(symbols.isnan().any()):
                raise ValueError("the encoder made values that are not numbers")
            payloads.append(bytes([level]) + coder.encode(symbols.cpu().numpy().astype(np.int32)))
        return payloads

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape] of payloads of any levels."""
        read = [self._symbols(payload) for payload in payloads]
        device = self.inverse_gains.device
        symbols = torch.stack([torch.from_numpy(found).view(self.code_shape) for _, found in read]).to(device)
        level = torch.tensor([level for level, _ in read], device=device)
        reconstruction: Tensor = self.decoder(self._dequantised(symbols, level))
        return reconstruction

    def ideal_bits(self, payload: bytes) -> float:
        """Information of the level, all being alike, and of the symbols under its tables."""
        level, symbols = self._symbols(payload)
        return math.log2(self.levels) + float(self._coders[level].tables.bits(symbols).sum())

    def _symbols(self, payload: bytes) -> tuple[int, NDArray[np.int32]]:
        if not self._coders:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        if not payload or payload[0] >= self.levels:
            found = f"begins with {payload[0]}" if payload else "is empty"
            raise PayloadError(f"a payload begins with its level, 0 to {self.levels - 1}; this one {found}")
        try:
            count = math.prod(self.code_shape[1:])
            return payload[0], self._coders[payload[0]].decode(payload[1:], count)
        except CodingError as error:
            raise PayloadError(str(error)) from error

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, once frozen: of level 0, channel by channel, then of level 1, and up."""
        return self._tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model.

        Raises:
            ValueError: another number of tables than levels times channels.
        """
        channels = self.code_shape[0]
        if tables.channels != self.levels * channels:
            raise ValueError(
                f"{tables.channels} frequency tables for {self.levels} levels of {channels} channels"
            )
        self._tables = tables
        parts = [slice(level * channels, (level + 1) * channels) for level in range(self.levels)]
        self._coders = [
            EntropyCoder(FrequencyTables(tables.frequencies[part], tables.offsets[part])) for part in parts
        ]

    def wire_options(self) -> dict[str, Any]:
        """What, beside the tables, turns a payload into a code: its shape, medians and gains."""
        values = (self.prior.medians, self.gains, self.inverse_gains)
        data = b"".join(value.detach().cpu().numpy().astype("<f4").tobytes() for value in values)
        return {
            "code_shape": self.code_shape,
            "levels": self.levels,
            "gains": hashlib.sha256(data).hexdigest(),
        }


def _spread(values: Tensor, code: Tensor) -> Tensor:
    """``values`` [N, channels] beside a code [N, channels, ...]."""
    return values.view(*values.shape, *[1] * (code.ndim - 2))
