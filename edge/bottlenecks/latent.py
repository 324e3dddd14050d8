"""The common shape of learned bottlenecks with a factorized prior.

::

    features --encoder--> code --round--> symbols --entropy coder--> payload          device
    reconstruction <--decoder-- code <--+ medians-- symbols <--entropy coder-- payload  server

A family says what its ``encoder`` and ``decoder`` are; everything else stands here.
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

from edge.bottlenecks.base import Bottleneck, PayloadError, Shape
from edge.bottlenecks.prior import FactorizedPrior
from edge.coding import CodingError, FrequencyTables

__all__ = ["LatentBottleneck"]


class LatentBottleneck(Bottleneck):
    """Encoder, factorized prior, decoder.

    A subclass sets three attributes in its constructor: ``encoder`` (features to code
    [N, channels, ...]), ``decoder`` (code to reconstruction) and ``prior``, and names the shape of
    one sample's code, ``code_shape``.
    """

    learned = True
    encoder: nn.Module
    decoder: nn.Module
    prior: FactorizedPrior
    code_shape: Shape

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction from the noisy code, and bits [N] under the learned density."""
        noisy, bits = self.prior(self.encoder(features))
        return self.decoder(noisy), bits

    def transmit(self, features: Tensor) -> Tensor:
        """Reconstruction from the rounded code; gradients reach the decoder only."""
        with torch.no_grad():
            code = self.prior.dequantised(self.encoder(features))
        reconstruction: Tensor = self.decoder(code)
        return reconstruction

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """One entropy-coded payload a sample."""
        coder = self.prior.coder
        self.check_features(features)
        # One at a time: a convolution may round otherwise in another batch, and the payload with it.
        return [coder.encode(self.prior.symbols(self.encoder(sample[None])[0])) for sample in features]

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Reconstructions [N, *output_shape]."""
        codes = [self.prior.code(self._symbols(payload)).view(self.code_shape) for payload in payloads]
        reconstruction: Tensor = self.decoder(torch.stack(codes))
        return reconstruction

    def ideal_bits(self, payload: bytes) -> float:
        """Information of the payload's symbols under the frozen tables."""
        return float(self.prior.coder.tables.bits(self._symbols(payload)).sum())

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Start the prior at the spread that the code has by now."""
        self.prior.fit_scale(self.encoder(features))

    def freeze(self) -> None:
        """Make the frequency tables from the learned density."""
        self.prior.freeze()

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, once frozen."""
        return self.prior.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model."""
        self.prior.load_tables(tables)

    def wire_options(self) -> dict[str, Any]:
        """What, beside the tables, turns a payload into a code: its shape and the medians."""
        medians = self.prior.medians.detach().cpu().numpy().astype("<f4").tobytes()
        return {"code_shape": self.code_shape, "medians": hashlib.sha256(medians).hexdigest()}

    def _symbols(self, payload: bytes) -> NDArray[np.int32]:
        try:
            return self.prior.coder.decode(payload, math.prod(self.code_shape[1:]))
        except CodingError as error:
            raise PayloadError(str(error)) from error
