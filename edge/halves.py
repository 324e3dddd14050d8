"""The halves of a split model as they run, each on its own machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edge.blueprint import ModelSpec
from edge.bottlenecks.base import Bottleneck, Shape
from edge.coding.frame import Handshake

__all__ = ["DeviceHalf", "LoadedHalf", "ServerHalf"]


@dataclass(frozen=True, eq=False)
class LoadedHalf:
    """What both halves say of their model."""

    spec: ModelSpec
    model_id: str  #: 16 hex digits, the same in both halves
    bottleneck: Bottleneck | None
    feature_shape: Shape  #: of one sample ahead of the bottleneck
    target_shape: Shape  #: of one sample behind the bottleneck
    fingerprint: bytes  #: of the bottleneck; empty for a local model
    parameters: int  #: of this half
    macs: int  #: of this half, for one sample
    classes: int  #: length of the logits
    replaces: tuple[str, ...] = field(default=(), kw_only=True)  #: ids of models whose place this one took

    def handshake(self, client: str = "", top: int = 1) -> Handshake:
        """What this half opens a stream with, or expects of one."""
        return Handshake(self.model_id, self.fingerprint, self.feature_shape, client=client, top=top)


@dataclass(frozen=True, eq=False)
class DeviceHalf(LoadedHalf):
    """Head and encoder, ready to run."""

    head: nn.Module

    @property
    def local(self) -> bool:
        """Whether the whole network runs here, so that features are logits and nothing is sent."""
        return self.bottleneck is None

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Features [N, *feature_shape] of images [N, C, H, W] with values 0..1; logits if :attr:`local`.

        Raises:
            ValueError: images of another shape or not floating point.
        """
        if tuple(images.shape[1:]) != self.spec.input_shape or not images.is_floating_point():
            expected = ("N", *self.spec.input_shape)
            raise ValueError(
                f"images {images.dtype} of shape {tuple(images.shape)}, expected floats of shape {expected}"
            )
        features: Tensor = self.head(images)
        return features

    @property
    def levels(self) -> int:
        """Rates between which a sample may choose; 0 of a local model, which sends nothing."""
        return 0 if self.bottleneck is None else self.bottleneck.levels

    @torch.inference_mode()
    def encode(self, features: Tensor, level: int | None = None) -> list[bytes]:
        """One payload for each sample of features [N, *feature_shape].

        Args:
            features: what the head made of images.
            level: 0 .. :attr:`levels` - 1; the highest where it is not given.

        Raises:
            ValueError: as the bottleneck's ``encode``, or no such level.
            RuntimeError: a local model, which sends nothing.
        """
        if self.bottleneck is None:
            raise RuntimeError(f"model {self.spec.name!r} runs whole on the device: it has nothing to encode")
        if level is None:
            return self.bottleneck.encode(features)
        return self.bottleneck.encode_at(features, level)


@dataclass(frozen=True, eq=False)
class ServerHalf(LoadedHalf):
    """Decoder and tail, ready to run."""

    bottleneck: Bottleneck
    tail: nn.Module

    @property
    def max_payload(self) -> int:
        """Longest payload to accept, in bytes: four times the float32 image or features, and 4 KiB."""
        return 16 * max(math.prod(self.spec.input_shape), math.prod(self.feature_shape)) + 4096

    @torch.inference_mode()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Features [N, *target_shape] of payloads.

        Raises:
            PayloadError: a payload that the device half cannot have made.
        """
        return self.bottleneck.decode(payloads)

    @torch.inference_mode()
    def predict(self, features: Tensor) -> Tensor:
        """Logits [N, classes] of decoded features [N, *target_shape]."""
        logits: Tensor = self.tail(features)
        return logits
