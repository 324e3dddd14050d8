"""A factorized prior for codes that are multiplied by a gain before they are rounded."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.bottlenecks.prior import FactorizedPrior
from edge.bottlenecks.symbols import MAX_HALF_WIDTH, nearest_symbols
from edge.coding import FrequencyTables

__all__ = ["GainedPrior"]


class GainedPrior(FactorizedPrior):
    """One density for all gains: that of the code itself, in bins whose width is the inverse of the gain.

    A gain g multiplies a code y that does not know of it, so that symbol s stands for the y of a bin of
    width 1/g, and its probability is the mass there, ``F((s + 1/2) / g + m) - F((s - 1/2) / g + m)``, with
    the cumulative density F and the median m of y. Every sample, whichever its gain, teaches this one F;
    densities of their own would see one sample in ``levels``.

    What the code is rounded and coded with, :meth:`rounded` and :meth:`tables_of`, takes the gains as an
    argument; the inherited single coder is not used.
    """

    def forward(self, code: Tensor, gains: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noisy gained code and its information.

        Args:
            code: [N, channels, ...].
            gains: positive, broadcast against the code; 1 where they are not given.

        Returns:
            ``gains * code`` with additive uniform noise in (-1/2, 1/2), same shape, and bits [N].
        """
        density = self._trained()
        step = torch.ones_like(code) if gains is None else (1 / gains).expand_as(code)
        noisy = code + (torch.rand_like(code) - 0.5) * step
        lower, upper = (_by_channel(noisy + side * step / 2) for side in (-1, 1))
        mass = self._mass(lower, upper)
        bits = -density.likelihood_lower_bound(mass).log2()
        bits = bits.view(code.shape[1], code.shape[0], -1).sum((0, 2))
        return noisy / step, bits

    def rounded(self, code: Tensor, gains: Tensor | None = None) -> Tensor:
        """Symbols of a code [N, channels, ...] as float64, times gains, rounded about their medians."""
        if gains is None:
            return super().rounded(code)
        gains = gains.detach().double()
        # In the precision in which the server adds them again.
        offsets = (gains.float() * self.medians.view(1, -1, *[1] * (code.ndim - 2))).double()
        return nearest_symbols(code.detach().double() * gains - offsets)

    @torch.no_grad()
    def tables_of(self, gains: Tensor) -> FrequencyTables:
        """Integer frequency tables, one for each row and channel of ``gains`` [levels, channels], in order.

        Sets the medians.

        Raises:
            RuntimeError: there is no density (:meth:`prepare_training` has not been called).
        """
        density = self._trained()
        density.update(force=True, update_quantiles=True)
        self.medians.copy_(density.quantiles[:, 0, 1])
        low, high = self._quantile(self.tail_mass), self._quantile(1.0 - self.tail_mass)
        medians, masses, offsets = self.medians.double(), [], []
        density.double()
        for row in gains.detach().double():
            first = torch.floor((low - medians) * row).clamp(-MAX_HALF_WIDTH, 0).long()
            last = torch.ceil((high - medians) * row).clamp(0, MAX_HALF_WIDTH).long()
            grid = torch.arange(int(first.min()), int(last.max()) + 1, device=medians.device)
            edges = (grid[None, :] + torch.tensor([[-0.5], [0.5]], device=grid.device))[:, None, :].double()
            lower, upper = edges / row[:, None] + medians[:, None]
            mass: NDArray[np.float64] = self._mass(lower[:, None], upper[:, None])[:, 0].cpu().numpy()
            begins, ends = (first - grid[0]).tolist(), (last - grid[0] + 1).tolist()
            masses += [mass[c, begins[c] : ends[c]] for c in range(self.channels)]
            offsets += first.tolist()
        density.float()
        return FrequencyTables.from_probabilities(masses, offsets)

    def _mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Probability between ``lower`` and ``upper``, both [channels, 1, n]; precise in both tails."""
        density = self._trained()
        below = density._logits_cumulative(lower, stop_gradient=False)
        above = density._logits_cumulative(upper, stop_gradient=False)
        sign = torch.where(below + above > 0, -1.0, 1.0)  # the tail in which sigmoids are precise
        mass: Tensor = (torch.sigmoid(sign * above) - torch.sigmoid(sign * below)).abs()
        return mass


def _by_channel(code: Tensor) -> Tensor:
    """A code [N, channels, ...] as [channels, 1, n]."""
    return code.transpose(0, 1).reshape(code.shape[1], 1, -1)
