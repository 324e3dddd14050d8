"""Networks by name.

Every network takes images [N, C, H, W] with values 0..1 and returns logits [N, classes]; the
normalisation is its own first layer, ``normalise``. Names are our own small networks,
``torchvision:NAME`` and ``timm:NAME`` where those packages can be imported, and
``package.module:factory`` for a callable that returns an ``nn.Module``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Normalise", "available", "create", "register", "skeleton"]

Factory = Callable[..., nn.Module]
F = TypeVar("F", bound=Factory)

_registered: dict[str, Factory] = {}
_PATTERNS = ("torchvision:NAME", "timm:NAME", "package.module:factory")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def register(name: str) -> Callable[[F], F]:
    """Decorator that makes a factory (a function or class that returns a network) known by ``name``.

    Raises:
        ValueError: another factory has that name already.
    """

    def decorate(factory: F) -> F:
        known = _registered.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            factory.__module__,
            factory.__qualname__,
        ):
            raise ValueError(f"backbone {name!r} is already {known.__module__}.{known.__qualname__}")
        _registered[name] = factory
        return factory

    return decorate


def available() -> dict[str, str]:
    """Every registered name with the first line of its documentation."""
    return {name: (factory.__doc__ or "").partition("\n")[0] for name, factory in sorted(_registered.items())}


def create(name: str, **arguments: Any) -> nn.Module:
    """Make the network ``name``, with fresh weights unless its arguments ask for trained ones.

    Args:
        name: a registered name, ``torchvision:NAME``, ``timm:NAME`` or ``package.module:factory``.
        arguments: those of the network. For torchvision ``classes``, ``weights`` (None), ``mean``,
            ``std`` and the model's own; for timm ``classes``, ``pretrained`` (False), ``mean``,
            ``std`` and the model's own.

    Raises:
        LookupError: unknown name, or a package that cannot be imported; says what there is.
        TypeError: an argument that the network does not take.
        ValueError: an argument with a value that is not allowed.
    """
    factory = _find(name)
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        known = ", ".join(inspect.signature(factory).parameters)
        raise TypeError(f"backbone {name!r} {error}; its arguments are {known}") from None
    network = factory(**arguments)
    if not isinstance(network, nn.Module):
        raise TypeError(f"backbone {name!r} made a {type(network).__name__}, not an nn.Module")
    return network


def skeleton(name: str, **arguments: Any) -> nn.Module:
    """The network as :func:`create` makes it, on the ``meta`` device: no weights, and none fetched.

    Raises:
        LookupError, TypeError, ValueError: as :func:`create`.
    """
    trained = {"torchvision": "weights", "timm": "pretrained"}.get(name.partition(":")[0])
    if trained is not None:
        arguments = {key: value for key, value in arguments.items() if key != trained}
    with torch.device("meta"):
        return create(name, **arguments)


class Normalise(nn.Module):
    """``(images - mean) / std`` for each channel of images [N, C, H, W]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise ValueError(f"needs as many means as positive deviations, got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, same shape."""
        return (images - self.mean) / self.std


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


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))
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


def _find(name: str) -> Factory:
    if name in _registered:
        return _registered[name]
    package, _, attribute = name.partition(":")
    if package == "torchvision" and attribute:
        return _torchvision_factory(attribute)
    if package == "timm" and attribute:
        return _timm_factory(attribute)
    if package and attribute:
        return _imported_factory(package, attribute)
    raise LookupError(f"unknown backbone {name!r}; known are {', '.join([*available(), *_PATTERNS])}")


def _imported_factory(package: str, attribute: str) -> Factory:
    name = f"{package}:{attribute}"
    try:
        factory = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"backbone {name!r} cannot be imported: {error}") from error
    if not callable(factory):
        raise LookupError(f"backbone {name!r} is a {type(factory).__name__}, not a callable")
    return factory  # type: ignore[no-any-return]


def _torchvision_factory(name: str) -> Factory:
    from edge.bottlenecks.compressai_bridge import import_torchvision  # noqa: PLC0415

    try:
        import_torchvision()
        from torchvision import models  # noqa: PLC0415
    except (ImportError, RuntimeError) as error:
        raise LookupError(
            f"backbone 'torchvision:{name}': torchvision cannot be imported: {error}"
        ) from error
    _check_known("torchvision", name, models.list_models(module=models))

    def make(
        classes: int | None = None,
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **arguments: Any,
    ) -> nn.Module:
        default_mean, default_std = _IMAGENET_MEAN, _IMAGENET_STD
        if name in {"googlenet", "inception_v3"}:
            # Trained on (x - 0.5) / 0.5, to which `transform_input` would lead back from ImageNet's.
            default_mean = default_std = (0.5, 0.5, 0.5)
            arguments = {"aux_logits": False, "transform_input": False} | arguments
            arguments.setdefault("init_weights", weights is None)
        if classes is not None:
            arguments["num_classes"] = classes
        network = models.get_model(name, weights=weights, **arguments)
        return _normalised(network, mean or default_mean, std or default_std)

    return make


def _timm_factory(name: str) -> Factory:
    try:
        import timm  # noqa: PLC0415
    except (ImportError, RuntimeError) as error:
        raise LookupError(f"backbone 'timm:{name}': timm cannot be imported: {error}") from error
    _check_known("timm", name.partition(".")[0], timm.list_models())

    def make(
        classes: int | None = None,
        pretrained: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **arguments: Any,
    ) -> nn.Module:
        if classes is not None:
            arguments["num_classes"] = classes
        network = timm.create_model(name, pretrained=pretrained, **arguments)
        recipe = getattr(network, "pretrained_cfg", None) or {}
        default_mean, default_std = recipe.get("mean", _IMAGENET_MEAN), recipe.get("std", _IMAGENET_STD)
        return _normalised(network, mean or default_mean, std or default_std)

    return make


def _check_known(package: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5) or list(known)
        raise LookupError(f"unknown backbone '{package}:{name}'; {package} has {', '.join(near)}")


def _normalised(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """``network`` with a first layer ``normalise``; all other layers keep their names."""
    plain = type(network)

    def forward(self: nn.Module, images: Tensor) -> Any:
        return plain.forward(self, self.get_submodule("normalise")(images))

    network.add_module("normalise", Normalise(mean, std))
    network.__class__ = type(plain.__name__, (plain,), {"forward": forward, "__module__": plain.__module__})
    return network
