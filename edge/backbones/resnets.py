"""Residual networks for small images (He, Zhang, Ren, Sun: CVPR 2016)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from edge.backbones.normalise import Normalise
from edge.backbones.registry import register

__all__ = ["BasicBlock", "PaddedShortcut", "resnet18_32", "resnet_cifar"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: a projection where the shape changes, unless another is given."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if shortcut is not None:
            self.downsample = shortcut
        elif stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features [N, outputs, H / stride, W / stride] of [N, inputs, H, W]."""
        residual = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(residual + self.downsample(x))
        return out


@register("resnet18-32")
def resnet18_32(
    classes: int = 10,
    *,
    channels: int = 3,
    width: int = 64,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.25,),
) -> nn.Module:
    """ResNet-18 for images of about 32x32: 3x3 stem without pooling.

    He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, with the stem that
    is customary for CIFAR; 11,173,962 parameters for three channels and ten classes. Layers are named
    as in torchvision (``conv1``, ``layer1`` .. ``layer4``, ``fc``).

    Args:
        classes: length of the logits.
        channels: channels of the image.
        width: channels of layer1, doubled by each following layer.
        mean: of each channel; one value serves all.
        std: of each channel; one value serves all.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        normalise=Normalise(mean, std),
        conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
    )
    inputs = width
    for number in range(4):
        outputs = width << number
        blocks = BasicBlock(inputs, outputs, 2 if number else 1), BasicBlock(outputs, outputs, 1)
        layers[f"layer{number + 1}"] = nn.Sequential(*blocks)
        inputs = outputs
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


class PaddedShortcut(nn.Module):
    """Shortcut without parameters (option A): every second pixel, zero channels added on both sides.

    Args:
        added: channels to add, an even number.
    """

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """[N, C + added, H / 2, W / 2] of [N, C, H, W]."""
        half = self.added // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.added - half))


@register("resnet-cifar")
def resnet_cifar(
    classes: int = 10,
    *,
    depth: int = 20,
    width: int = 16,
    channels: int = 3,
    stem_stride: int = 1,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> nn.Module:
    """ResNet for CIFAR: three stages of (depth - 2) / 6 blocks, shortcuts without parameters.

    He et al., section 4.2; depth 20 and 56 have 269,722 and 853,018 parameters (three channels, ten
    classes). The layers are those of the customary weight files: ``conv1``, ``bn1``, ``layer1`` ..
    ``layer3``, ``linear``.

    Args:
        classes: length of the logits.
        depth: 6 n + 2: 8, 14, 20, 32, 44, 56, 110, ...
        width: channels of layer1, doubled by each following layer.
        channels: channels of the image.
        stem_stride: of the first convolution; 2 makes the network four times as fast.
        mean: of each channel; one value serves all.
        std: of each channel; one value serves all.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"resnet-cifar: depth is {depth}, allowed are 6 n + 2: 8, 14, 20, 26, ...")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        normalise=Normalise(mean, std),
        conv1=nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
        layer1=nn.Sequential(*(BasicBlock(width, width, 1) for _ in range((depth - 2) // 6))),
    )
    inputs = width
    for name in ("layer2", "layer3"):
        blocks = [BasicBlock(inputs, 2 * inputs, 2, PaddedShortcut(inputs))]
        blocks += [BasicBlock(2 * inputs, 2 * inputs, 1) for _ in range((depth - 2) // 6 - 1)]
        layers[name] = nn.Sequential(*blocks)
        inputs *= 2
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
