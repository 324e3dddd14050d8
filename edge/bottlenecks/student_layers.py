"""The convolutions of the Entropic Student, which several families share.

::

    encoder  Conv k5 s p2 -> GDN1 -> Conv k5 s p2 -> GDN1 -> Conv k2            (no biases)
    decoder  Conv k2 p1 -> IGDN1 -> Conv k2 -> IGDN1 -> Conv k2 p1              (no biases)

Matsubara, Yang, Levorato, Mandt: "Supervised Compression for Resource-Constrained Edge Computing
Systems", WACV 2022; the layers are those of SC2's ``FPBasedResNetBottleneck``. The strides follow from
the shapes: the paper's (2, 2) where the output has a quarter of the input's side, (2, 1) for a half,
(1, 1) for the same side. The code has a side one shorter than the output's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from edge.bottlenecks.base import Shape
from edge.bottlenecks.gdn import GDN1
from edge.bottlenecks.options import two_widths, whole_number

__all__ = ["StudentLayers", "student_layers"]

_STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}


class StudentLayers(NamedTuple):
    """Encoder, decoder, and the shape of one sample's code between them."""

    encoder: nn.Sequential
    decoder: nn.Sequential
    code_shape: Shape


def student_layers(
    input_shape: Shape,
    output_shape: Shape,
    channels: int,
    encoder_channels: Sequence[int] | None = None,
    decoder_channels: Sequence[int] | None = None,
) -> StudentLayers:
    """Layers that lead from ``input_shape`` by a code of ``channels`` channels to ``output_shape``.

    Args:
        input_shape: (C, H, W) of one sample.
        output_shape: (C', H', W') with H' = H / r rounded up, r in 1, 2, 4.
        channels: channels of the code (24 in the paper).
        encoder_channels: widths of the encoder's two hidden layers; four and two times the code's where
            they are not given: (96, 48) in the paper.
        decoder_channels: widths of the decoder's two hidden layers; two times and once the output's where
            they are not given: (512, 256) in the paper.

    Raises:
        ValueError: shapes between which these layers cannot lead, or widths that are none.
    """
    whole_number("channels", channels, 1)
    strides = _strides(input_shape, output_shape)
    if encoder_channels is None:
        encoder_channels = (4 * channels, 2 * channels)
    if decoder_channels is None:
        decoder_channels = (2 * output_shape[0], output_shape[0])
    first, second = two_widths("encoder_channels", encoder_channels)
    third, fourth = two_widths("decoder_channels", decoder_channels)
    encoder = nn.Sequential(
        nn.Conv2d(input_shape[0], first, 5, strides[0], 2, bias=False),
        GDN1(first),
        nn.Conv2d(first, second, 5, strides[1], 2, bias=False),
        GDN1(second),
        nn.Conv2d(second, channels, 2, bias=False),
    )
    decoder = nn.Sequential(
        nn.Conv2d(channels, third, 2, padding=1, bias=False),
        GDN1(third, inverse=True),
        nn.Conv2d(third, fourth, 2, bias=False),
        GDN1(fourth, inverse=True),
        nn.Conv2d(fourth, output_shape[0], 2, padding=1, bias=False),
    )
    return StudentLayers(encoder, decoder, (channels, output_shape[1] - 1, output_shape[2] - 1))


def _strides(input_shape: Shape, output_shape: Shape) -> tuple[int, int]:
    """Strides of the two strided layers that lead from one side length to the other."""
    if len(input_shape) != 3 or len(output_shape) != 3:
        raise ValueError(f"needs shapes (C, H, W), got {input_shape} and {output_shape}")
    for ratio, strides in _STRIDES.items():
        if all(-(-i // ratio) == o for i, o in zip(input_shape[1:], output_shape[1:], strict=True)):
            if min(output_shape[1:]) < 2:
                raise ValueError(f"needs an output side of at least 2, got {output_shape}")
            return strides
    raise ValueError(
        f"cannot lead from {input_shape} to {output_shape}: the sides have to be in the ratio 1, 2 or 4"
    )
