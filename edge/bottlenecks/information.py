"""Variational information bottleneck: a stochastic Gaussian code whose divergence from a prior is the rate.

::

    features --encoder--> mean, deviation --+ noise--> code --decoder--> reconstruction         training
    mean --round to the grid--> symbols --entropy coder--> payload                                device
    reconstruction <--decoder-- code <--grid-- symbols <--entropy coder-- payload                 server
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, Shape, TrainingPass
from edge.bottlenecks.gaussians import bin_mass, cauchy_schwarz, kullback_leibler
from edge.bottlenecks.options import real_number, two_widths, whole_number
from edge.bottlenecks.registry import register
from edge.bottlenecks.student_layers import student_layers
from edge.bottlenecks.symbols import MAX_HALF_WIDTH, nearest_symbols
from edge.coding import CodingError, EntropyCoder, FrequencyTables

__all__ = ["GaussianPrior", "InformationBottleneck"]

_DIVERGENCES = {"kl": kullback_leibler, "cauchy-schwarz": cauchy_schwarz}
_TAIL = 5.0  # deviations of the prior on each side that the tables cover; what lies outside is escaped
_LEAST_MASS = 2.0**-40  # of a bin, in the estimate of the bits: about what an escape costs
_SMALLEST = 1e-3  # deviation of the code's noise and of the prior


@register("information")
class InformationBottleneck(Bottleneck):
    """Gaussian stochastic code q(z|x) = N(mean(x), deviation(x)^2), learned prior p(z), rate D(q, p).

    Alemi, Fischer, Dillon, Murphy: "Deep Variational Information Bottleneck", ICLR 2017: the rate is
    KL(q || p). Alternatively the Cauchy-Schwarz divergence takes its place (Yu, Yu, Løkse, Jenssen,
    Principe: "Cauchy-Schwarz Divergence Information Bottleneck for Regression", ICLR 2024), here between
    q and p in closed form, where the paper estimates it between samples. The prior is one Gaussian for each
    channel. What the reconstruction is good for, classification or regression, is the recipe's to say.

    When it runs, the mean is rounded to a grid about the prior's mean, whose step is ``step`` times the
    root mean square deviation of the channel over what :meth:`observe` saw, and coded under the prior's mass
    in the grid's bins. At the default, the square root of 12, rounding makes noise of the variance that
    the decoder was trained with. ``bits`` are those of the bin, which is what is sent; ``rate``, which beta
    weighs, is the divergence.

    Args:
        input_shape: (C, H, W) for the layers of :mod:`edge.bottlenecks.student_layers`, or (D,) for two
            hidden linear layers on each side.
        output_shape: as the student's layers ask; any shape behind (D,); default the input shape.
        channels: channels of the code; its length behind (D,).
        encoder_channels: widths of the encoder's two hidden layers; four and two times ``channels``.
        decoder_channels: widths of the decoder's two hidden layers; of linear ones two and four times
            ``channels``, else as the student's.
        divergence: ``kl`` or ``cauchy-schwarz``.
        step: of the grid, in deviations of the code's noise; more than 0.

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
        divergence: Literal["kl", "cauchy-schwarz"] = "kl",
        step: float = math.sqrt(12),
    ) -> None:
        super().__init__(input_shape, output_shape)
        whole_number("channels", channels, 1)
        if divergence not in tuple(_DIVERGENCES):  # a tuple: any value can be looked for in it
            raise ValueError(f"divergence is {divergence!r}, allowed are {', '.join(_DIVERGENCES)}")
        self.divergence = divergence
        self.step = real_number("step", step, lambda value: value > 0, "numbers of more than 0")
        self.code_shape: Shape
        if len(self.input_shape) == 1:
            self.encoder, self.decoder = _linear_layers(
                self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
            )
            self.code_shape = (channels,)
        else:
            layers = student_layers(
                self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
            )
            self.encoder, self.decoder, self.code_shape = layers
            last = self.encoder[-1]
            assert isinstance(last, nn.Conv2d)
            self.encoder[-1] = nn.Conv2d(last.in_channels, 2 * channels, 2, bias=False)
        self.prior = GaussianPrior(channels)
        self._observed: tuple[int, Tensor] | None = None

    # --- training ---------------------------------------------------------------------------

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction from a code drawn of q(z|x), and bits [N] of the bins in which the means lie."""
        done = self.training_pass(features)
        return done.reconstruction, done.bits

    def training_pass(self, features: Tensor) -> TrainingPass:
        """As :meth:`forward`; the rate is the divergence of q(z|x) from the prior, in bits."""
        mean, deviation = self._stochastic(features)
        reconstruction = self.decoder(mean + deviation * torch.randn_like(deviation))
        m, s = self.prior.parameters_beside(mean)
        rate = _DIVERGENCES[self.divergence](mean, deviation, m, s).flatten(1).sum(1)
        steps = self.prior.steps
        if self.tables is None:  # no grid yet: the one that would fit this batch
            steps = self.step * _by_channel(deviation.detach()).square().mean(1).sqrt()
        mass = bin_mass(mean, _beside(steps, mean), m, s)
        bits = -torch.log2(mass.clamp_min(_LEAST_MASS)).flatten(1).sum(1)
        return TrainingPass(reconstruction, bits, rate, torch.zeros_like(bits))

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Start the prior at the code's own mean and deviation by now."""
        mean, deviation = self._stochastic(features)
        self.prior.fit(_by_channel(mean), _by_channel(deviation))

    @torch.no_grad()
    def observe(self, features: Tensor) -> None:
        """Take note of the variance of the code's noise, channel by channel."""
        variance = _by_channel(self._stochastic(features)[1]).double().square()
        count, total = self._observed or (0, torch.zeros_like(variance[:, 0]))
        self._observed = count + variance.shape[1], total + variance.sum(1)

    def freeze(self) -> None:
        """Set the grid by what was observed, and make the frequency tables of the prior on it.

        Raises:
            RuntimeError: nothing has been observed.
        """
        if self._observed is not None:
            count, total = self._observed
            self.prior.set_grid(self.step * (total / count).sqrt())
            self._observed = None
        elif self.tables is None:
            raise RuntimeError(
                "the grid's step follows the code's noise: call observe(features) before freeze()"
            )
        self.prior.freeze()

    def _stochastic(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of q(z|x), both [N, *code_shape]."""
        mean, raw = self.encoder(features).chunk(2, 1)
        return mean, F.softplus(raw - 2) + _SMALLEST

    # --- running ----------------------------------------------------------------------------

    def transmit(self, features: Tensor) -> Tensor:
        """Reconstruction from the rounded mean; gradients reach the decoder only.

        Raises:
            NotFrozenError: there is no grid yet.
        """
        self._coder()
        with torch.no_grad():
            code = self.prior.dequantised(self.prior.rounded(self._stochastic(features)[0]))
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """One entropy-coded payload a sample."""
        coder = self._coder()
        self.check_features(features)
        payloads = []
        for sample in features:  # one at a time: a convolution may round otherwise in another batch
            symbols = self.prior.rounded(self._stochastic(sample[None])[0]).view(self.code_shape[0], -1)
            if bool(symbols.isnan().any()):
                raise ValueError("the encoder made values that are not numbers")
            payloads.append(coder.encode(symbols.cpu().numpy().astype(np.int32)))
        return payloads

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape]."""
        read = [torch.from_numpy(self._symbols(payload)).view(self.code_shape) for payload in payloads]
        code = self.prior.dequantised(torch.stack(read).to(self.prior.mean.device))
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    def ideal_bits(self, payload: bytes) -> float:
        """Information of the payload's symbols under the frozen tables."""
        return float(self._coder().tables.bits(self._symbols(payload)).sum())

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, once frozen."""
        return self.prior.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model."""
        self.prior.load_tables(tables)

    def wire_options(self) -> dict[str, Any]:
        """What, beside the tables, turns a payload into a code: its shape, and the grid."""
        grid = torch.cat((self.prior.mean.detach(), self.prior.steps)).cpu().numpy().astype("<f4").tobytes()
        return {"code_shape": self.code_shape, "grid": hashlib.sha256(grid).hexdigest()}

    def _coder(self) -> EntropyCoder:
        if self.prior.coder is None:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        return self.prior.coder

    def _symbols(self, payload: bytes) -> NDArray[np.int32]:
        try:
            return self._coder().decode(payload, math.prod(self.code_shape[1:]))
        except CodingError as error:
            raise PayloadError(str(error)) from error


class GaussianPrior(nn.Module):
    """A learned Gaussian for each channel, and the grid on which codes are rounded.

    Args:
        channels: channels of the code.
    """

    steps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_deviation = nn.Parameter(torch.zeros(channels))
        self.register_buffer("steps", torch.ones(channels))
        self.coder: EntropyCoder | None = None

    def parameters_beside(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the prior, to be broadcast against a code [N, channels, ...]."""
        return _beside(self.mean, code), _beside(self.log_deviation.exp() + _SMALLEST, code)

    @torch.no_grad()
    def fit(self, mean: Tensor, deviation: Tensor) -> None:
        """Take over mean and variance of codes of these means and deviations, both [channels, n]."""
        variance = mean.var(1, correction=0) + deviation.square().mean(1)
        self.mean.copy_(mean.mean(1))
        self.log_deviation.copy_((variance.sqrt() - _SMALLEST).clamp_min(_SMALLEST).log())

    def set_grid(self, steps: Tensor) -> None:
        """Round to multiples of these steps [channels] from now on."""
        self.steps.copy_(steps)

    @torch.no_grad()
    def freeze(self) -> None:
        """Make the integer frequency tables of the Gaussians' masses in the grid's bins."""
        deviations = self.log_deviation.double().exp() + _SMALLEST
        steps = self.steps.double()
        masses: list[NDArray[np.float64]] = []
        offsets: list[int] = []
        for deviation, step in zip(deviations, steps, strict=True):
            last = min(MAX_HALF_WIDTH, math.ceil(float(_TAIL * deviation / step)))
            centres = torch.arange(-last, last + 1, device=step.device) * step
            masses.append(bin_mass(centres, step, 0.0, deviation).cpu().numpy())
            offsets.append(-last)
        self.load_tables(FrequencyTables.from_probabilities(masses, offsets))

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables; None before :meth:`freeze` or :meth:`load_tables`."""
        return None if self.coder is None else self.coder.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Code with these tables.

        Raises:
            ValueError: another number of channels.
        """
        if tables.channels != len(self.mean):
            raise ValueError(f"{tables.channels} frequency tables for {len(self.mean)} channels")
        self.coder = EntropyCoder(tables)

    def rounded(self, mean: Tensor) -> Tensor:
        """Symbols of means [N, channels, ...] as float64: multiples of the step from the prior's mean."""
        distance = mean.detach().double() - _beside(self.mean, mean).detach().double()
        return nearest_symbols(distance / _beside(self.steps, mean).double())

    def dequantised(self, symbols: Tensor) -> Tensor:
        """The code float32 [N, channels, ...] that symbols of that shape stand for."""
        return symbols.to(self.steps) * _beside(self.steps, symbols) + _beside(self.mean.detach(), symbols)


def _linear_layers(
    input_shape: Shape,
    output_shape: Shape,
    channels: int,
    encoder_channels: Sequence[int] | None,
    decoder_channels: Sequence[int] | None,
) -> tuple[nn.Sequential, nn.Sequential]:
    if encoder_channels is None:
        encoder_channels = (4 * channels, 2 * channels)
    if decoder_channels is None:
        decoder_channels = (2 * channels, 4 * channels)
    first, second = two_widths("encoder_channels", encoder_channels)
    third, fourth = two_widths("decoder_channels", decoder_channels)
    encoder = nn.Sequential(
        nn.Linear(input_shape[0], first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, 2 * channels),
    )
    decoder = nn.Sequential(
        nn.Linear(channels, third),
        nn.ReLU(),
        nn.Linear(third, fourth),
        nn.ReLU(),
        nn.Linear(fourth, math.prod(output_shape)),
        nn.Unflatten(1, output_shape),
    )
    return encoder, decoder


def _by_channel(code: Tensor) -> Tensor:
    """A code [N, channels, ...] as [channels, n]."""
    return code.transpose(0, 1).flatten(1)


def _beside(values: Tensor, code: Tensor) -> Tensor:
    """``values`` [channels], to be broadcast against a code [N, channels, ...]."""
    return values.view(-1, *[1] * (code.ndim - 2))
