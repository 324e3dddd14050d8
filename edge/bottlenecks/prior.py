"""The factorized prior: an independent learned density for each channel of the code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks.base import NotFrozenError
from edge.bottlenecks.symbols import MAX_HALF_WIDTH, nearest_symbols
from edge.coding import EntropyCoder, FrequencyTables

if TYPE_CHECKING:
    from compressai.entropy_models import EntropyBottleneck

__all__ = ["FactorizedPrior"]


class FactorizedPrior(nn.Module):
    """Factorized prior (Balle et al. 2018): learned while training, integer tables when it runs.

    While training, codes get additive uniform noise and the likelihood of CompressAI's
    ``EntropyBottleneck``. :meth:`freeze` evaluates it once on the integer grid about the medians;
    from then on only the tables and the medians are used, which are all that ships.

    Args:
        channels: channels of the code.
        tail_mass: probability that may lie outside a table's support on each side.
    """

    medians: Tensor

    def __init__(self, channels: int, tail_mass: float = 2.0**-20) -> None:
        super().__init__()
        self.channels = channels
        self.tail_mass = tail_mass
        self.register_buffer("medians", torch.zeros(channels))
        self.density: EntropyBottleneck | None = None
        self._coder: EntropyCoder | None = None

    # --- training ---------------------------------------------------------------------------

    def prepare_training(self, scale: float = 10.0) -> None:
        """Attach the learned density, starting at width ``scale``; idempotent."""
        if self.density is None:
            self.density = _entropy_bottleneck(self.channels, scale)
            self.density.to(self.medians.device)

    def fit_scale(self, code: Tensor) -> None:
        """Start the densities anew at the spread of ``code`` [N, channels, ...].

        CompressAI's default start (width 10) is tens of epochs away from a code of width 1; a short
        schedule would spend them on the prior while the rate term means nothing.
        """
        deviation = float(code.detach().flatten(2).transpose(0, 1).flatten(1).std(1).mean())
        scale = max(
            0.5, 0.7 * deviation
        )  # the density starts as a logistic, of deviation 1.8 times its scale
        fresh = _entropy_bottleneck(self.channels, scale).to(code.device)
        self._trained().load_state_dict(fresh.state_dict())

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy code and its information.

        Args:
            code: [N, channels, ...].

        Returns:
            the code with additive uniform noise in (-1/2, 1/2), same shape, and bits [N].
        """
        noisy, likelihood = self._trained()(code, training=True)
        return noisy, -likelihood.log2().flatten(1).sum(1)

    def dequantised(self, code: Tensor) -> Tensor:
        """The code rounded about the medians: the values that the decoder will see, same shape."""
        medians = self.medians.view(1, -1, *[1] * (code.ndim - 2))
        return self.rounded(code).to(medians) + medians

    @torch.no_grad()
    def freeze(self) -> None:
        """Make the integer frequency tables, once, from the learned density.

        Raises:
            RuntimeError: there is no density (:meth:`prepare_training` has not been called).
        """
        density = self._trained()
        density.update(force=True, update_quantiles=True)
        self.medians.copy_(density.quantiles[:, 0, 1])
        low, high = self.support()
        medians = self.medians.double()
        first = torch.floor(low - medians).clamp(-MAX_HALF_WIDTH, 0).long()
        last = torch.ceil(high - medians).clamp(0, MAX_HALF_WIDTH).long()
        grid = torch.arange(int(first.min()), int(last.max()) + 1, device=medians.device)
        values = (grid[None, :] + medians[:, None])[:, None, :]
        likelihood, _, _ = density.double()._likelihood(values)
        density.float()
        masses: list[NDArray[np.float64]] = [
            likelihood[c, 0, int(first[c] - grid[0]) : int(last[c] - grid[0]) + 1].cpu().numpy()
            for c in range(self.channels)
        ]
        self.load_tables(FrequencyTables.from_probabilities(masses, first.tolist()))

    @torch.no_grad()
    def support(self) -> tuple[Tensor, Tensor]:
        """Where the learned density begins and ends, but for ``tail_mass`` on each side: two of [channels].

        Raises:
            RuntimeError: there is no density.
        """
        return self._quantile(self.tail_mass), self._quantile(1.0 - self.tail_mass)

    def _quantile(self, probability: float) -> Tensor:
        """Where the cumulative density of each channel reaches ``probability``, float64 [channels]."""
        density = self._trained()
        target = math.log(probability) - math.log1p(-probability)
        low = torch.full((self.channels, 1, 1), -1e5, device=self.medians.device)
        high = -low
        for _ in range(48):
            middle = (low + high) / 2
            below = density._logits_cumulative(middle, stop_gradient=True) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return ((low + high) / 2).flatten().double()

    # --- running ----------------------------------------------------------------------------

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables; None before :meth:`freeze` or :meth:`load_tables`."""
        return None if self._coder is None else self._coder.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Code with these tables.

        Raises:
            ValueError: another number of channels.
        """
        if tables.channels != self.channels:
            raise ValueError(f"{tables.channels} frequency tables for {self.channels} channels")
        self._coder = EntropyCoder(tables)

    @property
    def coder(self) -> EntropyCoder:
        """The entropy coder on the frozen tables.

        Raises:
            NotFrozenError: there are no tables yet.
        """
        if self._coder is None:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        return self._coder

    def symbols(self, code: Tensor) -> NDArray[np.int32]:
        """Integer symbols of one sample's code [channels, ...]: int32 [channels, n].

        Values beyond int32 saturate; they round-trip as the nearest int32.

        Raises:
            ValueError: a value that is not a number.
        """
        symbols = self.rounded(code[None])[0].flatten(1)
        if bool(symbols.isnan().any()):
            raise ValueError("the encoder made values that are not numbers")
        return symbols.cpu().numpy().astype(np.int32)

    def code(self, symbols: NDArray[np.int32]) -> Tensor:
        """The inverse of :meth:`symbols`: code values float32 [channels, n]."""
        return torch.from_numpy(symbols).to(self.medians) + self.medians[:, None]

    def rounded(self, code: Tensor) -> Tensor:
        """Symbols of code [N, channels, ...] as float64: the one rounding that all methods share."""
        medians = self.medians.double().view(1, -1, *[1] * (code.ndim - 2))
        return nearest_symbols(code.detach().double() - medians)

    def _trained(self) -> EntropyBottleneck:
        if self.density is None:
            raise RuntimeError("this prior has no density to train: call prepare_training() first")
        return self.density


def _entropy_bottleneck(channels: int, scale: float) -> EntropyBottleneck:
    """CompressAI's entropy bottleneck, imported only when it is needed."""
    from edge.bottlenecks import compressai_bridge  # noqa: PLC0415

    return compressai_bridge.entropy_bottleneck(channels, scale)
