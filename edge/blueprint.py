"""What a split model is made of, and the making of it: whole with fresh weights, or half without any."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edge import backbones, bottlenecks
from edge.bottlenecks.base import Bottleneck, Shape
from edge.graphs import modes_set
from edge.split import INPUT, OUTPUT, SplitModel, cut

__all__ = ["HALVES", "BundleError", "Half", "ModelSpec", "black_image", "build", "skeleton", "without_peer"]

Half = Literal["device", "server"]
HALVES: tuple[Half, ...] = ("device", "server")
_ABSENT: dict[Half, str] = {"device": "decoder", "server": "encoder"}


class BundleError(ValueError):
    """A model that cannot be saved, or a bundle that cannot be loaded. The message names file and reason."""


@dataclass(frozen=True)
class ModelSpec:
    """What a split model is made of; its weights apart, all that is needed to build it.

    Args:
        name: label of the method, unique in a run.
        network: name of a backbone.
        network_arguments: its arguments, JSON values.
        cut: layer behind which the tail begins (see :func:`edge.split.cut`).
        entry: where the head ends, if not at ``cut``.
        input_shape: (C, H, W) of an image.
        bottleneck: its name; None where the whole network runs on the device (``cut="output"``).
        bottleneck_arguments: its options, JSON values.
        rate: its rate parameter (beta, quality, bits), where it has one.

    Raises:
        BundleError: a local model with another cut, or arguments that are not JSON values.
    """

    name: str
    network: str
    network_arguments: dict[str, Any]
    cut: str
    entry: str | None
    input_shape: Shape
    bottleneck: str | None = None
    bottleneck_arguments: dict[str, Any] = field(default_factory=dict)
    rate: float | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # frozen: only here
        set_field(self, "input_shape", tuple(int(n) for n in self.input_shape))
        for key in ("network_arguments", "bottleneck_arguments"):
            try:
                set_field(self, key, json.loads(json.dumps(getattr(self, key), allow_nan=False)))
            except (TypeError, ValueError) as error:
                raise BundleError(f"model {self.name!r}: {key} are not plain JSON values: {error}") from error
        if self.bottleneck is None and (self.cut != OUTPUT or self.entry not in {None, OUTPUT}):
            raise BundleError(
                f"model {self.name!r}: without a bottleneck the whole network runs on the device, "
                f"so cut has to be {OUTPUT!r}, got cut {self.cut!r}, entry {self.entry!r}"
            )


def build(spec: ModelSpec, network: nn.Module | None = None) -> SplitModel:
    """A model with a fresh bottleneck, cut out of a fresh network or out of ``network`` itself.

    The shapes at the cut are found by running the network on one black image.

    Raises:
        LookupError: unknown backbone or bottleneck.
        CutError: the network cannot be cut there.
        TypeError, ValueError: arguments or shapes that a part does not take.
    """
    network = backbones.create(spec.network, **spec.network_arguments) if network is None else network
    head, tail = cut(network, spec.cut, entry=spec.entry)
    if spec.bottleneck is None:
        return SplitModel(head, None, tail)
    feature_shape, target_shape = _shape_behind(head, spec), _shape_behind(cut(network, spec.cut)[0], spec)
    return SplitModel(head, _bottleneck(spec, feature_shape, target_shape), tail)


def _bottleneck(spec: ModelSpec, feature_shape: Shape, target_shape: Shape) -> Bottleneck:
    name = str(spec.bottleneck)
    if bottlenecks.find(name).domain == "image" and (spec.entry or spec.cut) != INPUT:
        raise BundleError(
            f"model {spec.name!r}: bottleneck {name!r} reads images, so the cut has to be {INPUT!r}, "
            f"got {spec.entry or spec.cut!r}"
        )
    return bottlenecks.create(name, feature_shape, target_shape, **spec.bottleneck_arguments)


def skeleton(spec: ModelSpec, half: Half, feature_shape: Shape, target_shape: Shape) -> nn.ModuleDict:
    """The modules of one half without their weights: on the ``meta`` device, its peer's part absent."""
    network = backbones.skeleton(spec.network, **spec.network_arguments)
    head, tail = cut(network, spec.cut, entry=spec.entry)
    parts: dict[str, nn.Module] = {"head": head} if half == "device" else {"tail": tail}
    if spec.bottleneck is not None:
        with torch.device("meta"):
            parts["bottleneck"] = without_peer(_bottleneck(spec, feature_shape, target_shape), half)
    return nn.ModuleDict(parts)


def without_peer(bottleneck: Bottleneck, half: Half) -> Bottleneck:
    """``bottleneck`` without what ships with its peer alone, which raises a RuntimeError when called."""
    absent = _ABSENT[half]
    for owner in list(bottleneck.modules()):
        if isinstance(owner, Bottleneck) and absent in owner._modules:
            setattr(owner, absent, _Absent(absent, half))
    return bottleneck


def _shape_behind(module: nn.Module, spec: ModelSpec) -> Shape:
    """Shape of one sample behind ``module``, of which the image is the input."""
    try:
        with modes_set(module, False), torch.no_grad():
            value = module(black_image(module, spec))
    except (RuntimeError, ValueError) as error:
        raise BundleError(
            f"model {spec.name!r}: images of shape {spec.input_shape} do not fit {spec.network!r}: {error}"
        ) from error
    if not isinstance(value, Tensor) or value.shape[:1] != (1,):
        raise BundleError(f"model {spec.name!r}: the value at {spec.cut!r} is not a tensor [N, ...]")
    return tuple(value.shape[1:])


def black_image(module: nn.Module, spec: ModelSpec) -> Tensor:
    """One image of zeros [1, C, H, W], on the device of ``module``."""
    like = next(module.parameters(), torch.empty(0))
    return torch.zeros(1, *spec.input_shape, device=like.device)


class _Absent(nn.Module):
    """Stands where the other half has its part of a bottleneck."""

    def __init__(self, name: str, half: Half) -> None:
        super().__init__()
        self._reason = f"the {name} of this bottleneck does not ship with the {half} half"

    def forward(self, *_: object, **__: object) -> Tensor:
        raise RuntimeError(self._reason)
