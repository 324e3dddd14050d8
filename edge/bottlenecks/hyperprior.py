"""Scale hyperprior: side information that tells how wide each value of the code is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks import gaussian_conditional as gaussian
from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, Shape
from edge.bottlenecks.integer_network import FRACTION_BITS, IntegerNetwork, Layer
from edge.bottlenecks.options import whole_number
from edge.bottlenecks.prior import FactorizedPrior
from edge.bottlenecks.registry import register
from edge.bottlenecks.student_layers import student_layers
from edge.bottlenecks.symbols import nearest_symbols
from edge.coding import CodingError, EntropyCoder, FrequencyTables

__all__ = ["Conditional", "HyperEncoder", "HyperpriorBottleneck", "ScaleHyperpriorBottleneck"]

#: Levels of the scale table that one unit of the network's output spans, as a power of two: about as
#: many as a factor of e, so that the network learns ln(scale) at the pace of its other outputs.
_LEVEL_BITS = 3


class Conditional(NamedTuple):
    """What the side information says of each value of a code; integers, the same on every machine."""

    levels: Tensor  #: of the scale table, int64 [N, *code_shape]
    means: Tensor | None  #: in fixed point, int64 [N, *code_shape]; None where they are all zero


class HyperEncoder(nn.Module):
    """Features to code and hyper code; runs on the device only.

    Args:
        analysis: features to code.
        channels: channels of the code.
        hyper_channels: channels of the hyper code, whose sides are a quarter of the code's, rounded up.
        magnitude: whether the hyper code is made from the code's absolute values.
    """

    def __init__(self, analysis: nn.Module, channels: int, hyper_channels: int, *, magnitude: bool) -> None:
        super().__init__()
        self.analysis = analysis
        self.magnitude = magnitude
        self.hyper_analysis = nn.Sequential(
            nn.Conv2d(channels, hyper_channels, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(hyper_channels, hyper_channels, 5, 2, 2),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Code [N, channels, H, W] and hyper code [N, hyper_channels, H / 4, W / 4]."""
        code = self.analysis(features)
        return code, self.hyper_analysis(code.abs() if self.magnitude else code)


class HyperpriorBottleneck(Bottleneck):
    """What scale and mean-scale hyperprior share.

    ::

        features --encoder--> code, hyper code                                             device
        hyper code --round--> hyper symbols --synthesis (integers)--> levels, means        both
        code --round about the means--> symbols
        payload = one range coder's stream: hyper symbols by the factorized prior,
                  then symbols by the frequency table of their level
        symbols + means --decoder--> reconstruction                                        server

    The hyper synthesis is trained in floating point and runs, once frozen, on integers
    (:mod:`edge.bottlenecks.integer_network`): every machine finds the same levels and means, whatever
    its floating-point arithmetic. While training, code and hyper code get additive uniform noise, in
    the rate as in the reconstruction.

    The prior of the hyper code, ``hyper_prior``, has to learn at the pace of the networks. One that learns
    ten times as fast (as recipes let a factorized bottleneck's) makes deviations dear before the
    synthesis has found a use for them, and the hyper code falls silent within some 40 steps.

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4; default the input shape.
        channels: channels of the code.
        hyper_channels: channels of the hyper code; 16 in SC2.
        encoder_channels: widths of the encoder's two hidden layers (see ``student_layers``).
        decoder_channels: widths of the decoder's two hidden layers.

    Raises:
        ValueError: shapes between which these layers cannot lead, or widths that are none.
    """

    learned = True
    #: Whether the side information gives means beside scales.
    with_means = False

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        channels: int = 24,
        hyper_channels: int = 16,
        encoder_channels: Sequence[int] | None = None,
        decoder_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_shape, output_shape)
        analysis, decoder, code_shape = student_layers(
            self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
        )
        whole_number("hyper_channels", hyper_channels, 1, 4096)
        sides = [(code_shape[1], code_shape[2])]
        for _ in range(2):
            sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
        self.code_shape: Shape = code_shape
        self.hyper_shape: Shape = (hyper_channels, *sides[2])
        self.encoder = HyperEncoder(analysis, channels, hyper_channels, magnitude=not self.with_means)
        self.decoder = decoder
        self.hyper_prior = FactorizedPrior(hyper_channels)
        outputs = 2 * channels if self.with_means else channels
        self.synthesis = IntegerNetwork(
            [
                Layer(hyper_channels, hyper_channels, 5, 2, sides[2], sides[1]),
                Layer(hyper_channels, hyper_channels, 5, 2, sides[1], sides[0]),
                Layer(hyper_channels, outputs, 3, 1, sides[0], sides[0]),
            ]
        )
        self._coder: EntropyCoder | None = None

    # --- training ---------------------------------------------------------------------------

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction from the noisy code, and bits [N] of hyper code and code together."""
        code, hyper = self.encoder(features)
        noisy_hyper, hyper_bits = self.hyper_prior(hyper)
        scale, mean = self._predicted(noisy_hyper)
        noisy = code + torch.empty_like(code).uniform_(-0.5, 0.5)
        code_bits = gaussian.bits((noisy - mean).float(), scale).flatten(1).sum(1)
        return self.decoder(noisy), hyper_bits + code_bits

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Start the hyper code's prior at its spread; scales and means at those of each channel."""
        code, hyper = self.encoder(features)
        self.hyper_prior.fit_scale(hyper)
        channelwise = code.transpose(0, 1).flatten(1).double()
        deviation = channelwise.std(1).clamp(gaussian.NARROWEST, gaussian.WIDEST)
        wanted = (deviation / gaussian.NARROWEST).log() / gaussian.STEP / 2**_LEVEL_BITS
        if self.with_means:
            wanted = torch.cat([wanted, channelwise.mean(1)])
        found = self.synthesis(hyper).transpose(0, 1).flatten(1).mean(1)
        _, bias = self.synthesis.last.parameters()
        bias.add_(wanted.to(bias) - found)

    def freeze(self) -> None:
        """Make the frequency tables and the integer weights of the hyper synthesis."""
        self.hyper_prior.freeze()
        self.synthesis.freeze()
        ours, theirs = gaussian.tables(), self.hyper_prior.coder.tables
        offsets = np.concatenate([theirs.offsets, ours.offsets])
        self.load_tables(FrequencyTables((*theirs.frequencies, *ours.frequencies), offsets))

    def _predicted(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means [N, *code_shape] in floating point, for training; a mean may broadcast."""
        output = self.synthesis(hyper).float()
        if not self.with_means:
            return gaussian.scale_of(output * 2**_LEVEL_BITS), output.new_zeros(1)
        level, mean = output.chunk(2, 1)
        return gaussian.scale_of(level * 2**_LEVEL_BITS), mean

    # --- running ----------------------------------------------------------------------------

    def transmit(self, features: Tensor) -> Tensor:
        """Reconstruction from the code as the server will see it; gradients reach the decoder only."""
        with torch.no_grad():
            code, hyper = self.encoder(features)
            conditional = (
                self._conditional(self.hyper_prior.rounded(hyper).long()) if self.with_means else None
            )
            means = None if conditional is None else conditional.means
            seen = self._code(self._residual(code, means), means)
        reconstruction: Tensor = self.decoder(seen)
        return reconstruction

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """One entropy-coded payload a sample."""
        self._frozen()
        self.check_features(features)
        # One at a time: a convolution may round otherwise in another batch, and the payload with it.
        return [self._payload(*self.encoder(sample[None])) for sample in features]

    def _payload(self, code: Tensor, hyper: Tensor) -> bytes:
        """The payload of one sample's code and hyper code, each with a batch axis of 1."""
        writer = self._frozen().writer()
        hyper_symbols = self.hyper_prior.symbols(hyper[0])
        writer.put(hyper_symbols.reshape(-1), self._hyper_tables())
        conditional = self._conditional(torch.from_numpy(hyper_symbols).view(1, *self.hyper_shape))
        residual = self._residual(code, conditional.means)
        if bool(residual.isnan().any()):
            raise ValueError("the encoder made values that are not numbers")
        writer.put(residual.flatten().cpu().numpy().astype(np.int32), self._tables_of(conditional))
        return writer.payload()

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape]."""
        codes = []
        for payload in payloads:
            _, symbols, conditional = self._read(payload)
            residual = torch.from_numpy(symbols).view(1, *self.code_shape)
            codes.append(self._code(residual.to(conditional.levels.device), conditional.means))
        reconstruction: Tensor = self.decoder(torch.cat(codes))
        return reconstruction

    def ideal_bits(self, payload: bytes) -> float:
        """Information of hyper symbols and symbols under the frozen tables."""
        hyper_symbols, symbols, conditional = self._read(payload)
        tables = self._frozen().tables
        side = tables.bits_under(hyper_symbols, self._hyper_tables()).sum()
        return float(side + tables.bits_under(symbols, self._tables_of(conditional)).sum())

    def _read(self, payload: bytes) -> tuple[NDArray[np.int32], NDArray[np.int32], Conditional]:
        """Hyper symbols [n] and symbols [n] of a payload, and what the former say of the latter."""
        try:
            reader = self._frozen().reader(payload)
            hyper_symbols = reader.take(self._hyper_tables())
            conditional = self._conditional(torch.from_numpy(hyper_symbols).view(1, *self.hyper_shape))
            return hyper_symbols, reader.take(self._tables_of(conditional)), conditional
        except CodingError as error:
            raise PayloadError(str(error)) from error

    def _conditional(self, hyper_symbols: Tensor) -> Conditional:
        """Levels and means from hyper symbols, integers [N, *hyper_shape]: exact on every machine.

        Raises:
            NotFrozenError: there are no integer weights yet.
        """
        self._frozen()
        medians = (self.hyper_prior.medians.double() * 2**FRACTION_BITS).round().long().view(-1, 1, 1)
        values = (hyper_symbols.to(medians.device).long() << FRACTION_BITS) + medians
        output = self.synthesis.evaluate(values)
        levels, means = output.chunk(2, 1) if self.with_means else (output, None)
        # To the nearest level: integers are compared with thresholds halfway between two levels.
        half = 1 << (FRACTION_BITS - _LEVEL_BITS - 1)
        levels = ((levels + half) >> (FRACTION_BITS - _LEVEL_BITS)).clamp(0, gaussian.LEVELS - 1)
        return Conditional(levels, means)

    def _hyper_tables(self) -> NDArray[np.int64]:
        """Table of each hyper symbol [n]: its channel."""
        return np.repeat(np.arange(self.hyper_shape[0]), math.prod(self.hyper_shape[1:]))

    def _tables_of(self, conditional: Conditional) -> NDArray[np.int64]:
        """Table of each symbol [n]: its level, behind the tables of the hyper symbols."""
        levels: NDArray[np.int64] = conditional.levels.flatten().cpu().numpy()
        return levels + self.hyper_shape[0]

    def _residual(self, code: Tensor, means: Tensor | None) -> Tensor:
        """Symbols of code [N, *code_shape] as float64: the one rounding that all methods share."""
        value = code.detach().double()
        if means is not None:
            value = value - _as_number(means)
        return nearest_symbols(value)

    def _code(self, symbols: Tensor, means: Tensor | None) -> Tensor:
        """The inverse of :meth:`_residual`: float32 [N, *code_shape]. The sum is exact in float64."""
        value = symbols.double()
        if means is not None:
            value = value + _as_number(means)
        return value.float()

    # --- shipping ---------------------------------------------------------------------------

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, once frozen: one for each hyper channel, then one for each level."""
        return None if self._coder is None else self._coder.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model.

        Raises:
            ValueError: another number of tables.
        """
        expected = self.hyper_shape[0] + gaussian.LEVELS
        if tables.channels != expected:
            raise ValueError(f"{tables.channels} frequency tables, expected {expected}")
        self._coder = EntropyCoder(tables)

    def wire_options(self) -> dict[str, Any]:
        """What, beside the tables, turns a payload into a code."""
        medians = self.hyper_prior.medians.detach().cpu().numpy().astype("<f4").tobytes()
        return {
            "code_shape": self.code_shape,
            "hyper_shape": self.hyper_shape,
            "medians": hashlib.sha256(medians).hexdigest(),
            "synthesis": self.synthesis.digest(),
            "level_bits": _LEVEL_BITS,
        }

    def _frozen(self) -> EntropyCoder:
        if self._coder is None:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        return self._coder


@register("hyperprior")
class ScaleHyperpriorBottleneck(HyperpriorBottleneck):
    """Scale hyperprior (Balle, Minnen, Singh, Hwang, Johnston: ICLR 2018, arXiv:1802.01436).

    The code is coded under zero-mean Gaussians whose scales come from side information, as in SC2's
    ``SHPBasedResNetBottleneck``: hyper code from the code's absolute values by two convolutions of
    stride 2. As in TensorFlow Compression the network's output is the position in the scale table
    (here in units of 8 levels) and not the scale itself. Options: :class:`HyperpriorBottleneck`.
    """


def _as_number(means: Tensor) -> Tensor:
    """Fixed point as float64, exactly."""
    return means.double() * 2.0**-FRACTION_BITS
