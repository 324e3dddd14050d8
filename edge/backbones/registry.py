"""Networks by name: our own, those of torchvision and timm, and ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from edge.backbones.normalise import Normalise

__all__ = ["available", "create", "register", "skeleton"]

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
