"""Small convolutional networks: for digits, of federated averaging, and of Prototypical Networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from edge.backbones.normalise import Normalise
from edge.backbones.registry import register

__all__ = ["digits_cnn", "fedavg_cnn", "protonet_conv4"]


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


@register("fedavg-cnn")
def fedavg_cnn(
    classes: int = 10,
    *,
    widths: Sequence[int] = (32, 64),
    features: int = 512,
    channels: int = 1,
    size: int = 28,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> nn.Module:
    """The network that federated averaging was first shown with, and most of its successors since.

    McMahan et al.: "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
    2017: two blocks of 5x5 convolution, ReLU and 2x2 max pooling, then a hidden layer; 1,663,370 parameters
    for MNIST. No batch normalisation, whose statistics differ from client to client.

    ::

        normalise -> block1 [size / 2] -> block2 [size / 4] -> hidden [features] -> classifier

    Args:
        classes: length of the logits.
        widths: channels of the two blocks.
        features: of the hidden layer, which are not negative.
        channels: channels of the image.
        size: side of the image, at least 4.
        mean: of each channel; one value serves all.
        std: of each channel; one value serves all.
    """
    if len(widths) != 2:
        raise ValueError(f"fedavg-cnn: widths has to name the channels of two blocks, got {list(widths)}")
    if size < 4:
        raise ValueError(f"fedavg-cnn: size is {size}, the two poolings need at least 4")
    first, second = widths
    return nn.Sequential(
        OrderedDict(
            normalise=Normalise(mean, std),
            block1=_pooled(channels, first),
            block2=_pooled(first, second),
            hidden=nn.Sequential(
                OrderedDict(
                    flatten=nn.Flatten(),
                    linear=nn.Linear(second * (size // 4) ** 2, features),
                    relu=nn.ReLU(),
                )
            ),
            classifier=nn.Linear(features, classes),
        )
    )


def _pooled(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, 5, padding=2),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
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
