"""Mean-scale hyperprior: side information that tells where each value of the code lies, and how wide."""

from __future__ import annotations

from edge.bottlenecks.hyperprior import HyperpriorBottleneck
from edge.bottlenecks.registry import register

__all__ = ["MeanScaleHyperpriorBottleneck"]


@register("mean-scale-hyperprior")
class MeanScaleHyperpriorBottleneck(HyperpriorBottleneck):
    """Mean-scale hyperprior (Minnen, Balle, Toderici: NeurIPS 2018, arXiv:1809.02736).

    Without that paper's context model, as in SC2's ``MSHPBasedResNetBottleneck``.
    As :class:`~edge.bottlenecks.hyperprior.ScaleHyperpriorBottleneck`, but the side information, made
    from the code with its signs, gives a mean beside each scale. The code is rounded about the means,
    which are multiples of 2^-10, so that symbols and means add up to the same float32 everywhere.
    Options: :class:`~edge.bottlenecks.hyperprior.HyperpriorBottleneck`.
    """

    with_means = True
