"""Small convolutional networks: for digits, and the embedding of Prototypical Networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from edge.backbones.normalise import Normalise
from edge.backbones.registry import register

__all__ = ["digits_cnn", "protonet_conv4"]


@register("digits-cnn")
def digits_cnn(
    classes: int = 10,
    *,
    widths: Sequence[int] = (32, 64, 128),
    channels: int = 1,
    mean: Sequence[float] = (0.3058,),
    std: Sequence[float] = (0.3762,),
) -> nn.Module:
    """Small CNN for 8x8 images such as scikit-learn's digits.

    ::

        normalise -> stage1 [8x8] -> stage2 [4x4] -> stage3 [2x2] -> classifier

    Args:
        classes: length of the logits.
        widths: channels of the three stages, each two 3x3 convolutions.
        channels: channels of the image.
        mean: of each channel; the default is that of the digits' training set.
        std: of each channel.
    """
    if len(widths) != 3:
        raise ValueError(f"digits-cnn: widths has to name the channels of three stages, got {list(widths)}")
    first, second, third = widths
    return nn.Sequential(
        OrderedDict(
            normalise=Normalise(mean, std),
            stage1=_stage(channels, first, stride=1),
            stage2=_stage(first, second, stride=2),
            stage3=_stage(second, third, stride=2),
            classifier=nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(4 * third, classes))),
        )
    )


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            bn1=nn.BatchNorm2d(outputs),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            bn2=nn.BatchNorm2d(outputs),
            relu2=nn.ReLU(),
        )
    )


@register("protonet-conv4")
def protonet_conv4(
    classes: int | None = None,
    *,
    channels: int = 1,
    width: int = 64,
    size: int = 28,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> nn.Module:
    """The four-layer embedding network of Prototypical Networks.

    Snell, Swersky, Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017: four blocks of
    3x3 convolution, batch normalisation, ReLU and 2x2 max pooling; 111,936 parameters for one
    channel without the classifier.

    Args:
        classes: length of the logits; None for the embedding [N, width * (size // 16) ** 2] itself.
        channels: channels of the image.
        width: channels of every block.
        size: side of the image, at least 16.
        mean: of each channel; one value serves all.
        std: of each channel; one value serves all.
    """
    if size < 16:
        raise ValueError(f"protonet-conv4: size is {size}, the four poolings need at least 16")
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise(mean, std))
    for block in range(1, 5):
        inputs = channels if block == 1 else width
        layers[f"block{block}"] = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(inputs, width, 3, padding=1),
                bn=nn.BatchNorm2d(width),
                relu=nn.ReLU(),
                pool=nn.MaxPool2d(2),
            )
        )
    layers["flatten"] = nn.Flatten()
    if classes is not None:
        layers["classifier"] = nn.Linear(width * (size // 16) ** 2, classes)
    return nn.Sequential(layers)
