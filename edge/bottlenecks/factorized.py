"""Entropic Student: a learned stochastic bottleneck with a factorized prior."""

from __future__ import annotations

from collections.abc import Sequence

from edge.bottlenecks.latent import LatentBottleneck
from edge.bottlenecks.prior import FactorizedPrior
from edge.bottlenecks.registry import register
from edge.bottlenecks.student_layers import student_layers

__all__ = ["FactorizedBottleneck"]


@register("factorized")
class FactorizedBottleneck(LatentBottleneck):
    """The encoder and decoder of the Entropic Student with CompressAI's factorized prior.

    Matsubara, Yang, Levorato, Mandt: "Supervised Compression for Resource-Constrained Edge Computing
    Systems", WACV 2022: the layers of :mod:`edge.bottlenecks.student_layers` about a factorized prior.

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4; default the input shape.
        channels: channels of the code (24 in the paper).
        encoder_channels: widths of the encoder's two hidden layers; (96, 48) in the paper.
        decoder_channels: widths of the decoder's two hidden layers; (512, 256) in the paper.

    Raises:
        ValueError: shapes between which these layers cannot lead.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        channels: int = 24,
        encoder_channels: Sequence[int] | None = None,
        decoder_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_shape, output_shape)
        layers = student_layers(
            self.input_shape, self.output_shape, channels, encoder_channels, decoder_channels
        )
        self.encoder, self.decoder, self.code_shape = layers
        self.prior = FactorizedPrior(channels)
