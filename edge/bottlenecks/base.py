"""The bottleneck contract: what stands at the cut between head and tail.

::

    features [N, *input_shape] --forward--> (reconstruction [N, *output_shape], bits [N])    training
    features [N, *input_shape] --encode--> list of N payloads --decode--> [N, *output_shape]  running

A bottleneck has explicit methods and no hidden modes. Two attribute names have a meaning: what is
called ``encoder`` runs, and ships, only on the device; what is called ``decoder`` only on the server.
Everything else, but for what :meth:`Bottleneck.prepare_training` attaches, ships with both.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edge.coding.tables import FrequencyTables

__all__ = ["Bottleneck", "NotFrozenError", "PayloadError", "Shape", "whole_number"]

Shape = tuple[int, ...]


class PayloadError(ValueError):
    """A payload that this bottleneck cannot have produced. The message says what was expected."""


class NotFrozenError(RuntimeError):
    """Coding was asked for before :meth:`Bottleneck.freeze` had made the frequency tables."""


def whole_number(option: str, value: object, low: int, high: int | None = None) -> int:
    """``value``, if it is an int of ``low .. high``.

    Raises:
        ValueError: names the option, the value and what is allowed.
    """
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{option} is {value!r}, allowed are whole numbers of {allowed}")
    return value


class Bottleneck(nn.Module, ABC):
    """Turns features into bytes on the device and bytes into features on the server.

    Args:
        input_shape: shape of one sample ahead of the bottleneck, without the batch axis.
        output_shape: shape of one sample behind it; the input shape where it is not given.
    """

    #: ``"features"`` where it reads the features at the cut; ``"image"`` where it reads the network's
    #: input (values 0..1), so that the whole network runs on the server.
    domain: ClassVar[Literal["features", "image"]] = "features"
    #: Whether it has parameters that a recipe has to train.
    learned: ClassVar[bool] = False
    #: Raised when the meaning of a payload changes, so that peers of different age refuse each other.
    payload_version: ClassVar[int] = 1

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.input_shape: Shape = tuple(int(n) for n in input_shape)
        self.output_shape: Shape = tuple(int(n) for n in (output_shape or input_shape))

    @abstractmethod
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiable pass for training.

        Returns:
            the reconstruction [N, *output_shape] and the estimated information of each sample,
            in bits, [N].
        """

    @abstractmethod
    def encode(self, features: Tensor) -> list[bytes]:
        """One payload for each sample of ``features`` [N, *input_shape].

        A payload depends on its own sample alone, whatever else is in the batch.

        Raises:
            NotFrozenError: the frequency tables have not been made.
            ValueError: a wrong shape, or a value that is not finite.
        """

    @abstractmethod
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """The features [N, *output_shape] that the payloads, one or more, stand for.

        Raises:
            PayloadError: a payload that :meth:`encode` cannot have made.
        """

    def transmit(self, features: Tensor) -> Tensor:
        """What the server would see of ``features``, [N, *output_shape].

        The same values as ``decode(encode(features))``. A learned bottleneck computes them without
        the entropy coder and lets gradients reach its decoder, but not its encoder.
        """
        return self.decode(self.encode(features))

    def ideal_bits(self, payload: bytes) -> float:
        """Information in a payload under the tables it was coded with, in bits.

        Without an entropy coder a payload holds just its own bits.
        """
        return 8.0 * len(payload)

    def prepare_training(self) -> None:
        """Attach what only training needs. Called before an optimiser is made; idempotent."""
        for module in self.children():
            prepare = getattr(module, "prepare_training", None)
            if prepare is not None:
                prepare()

    def calibrate(self, features: Tensor) -> None:
        """Set what starts best from data, given typical ``features`` [N, *input_shape].

        A recipe calls it once, when a short warm-up has given the code its scale. By default nothing.
        """

    def freeze(self) -> None:
        """Turn the learned prior into integer frequency tables. Without a prior there is nothing to do."""

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables made by :meth:`freeze`; None without an entropy coder."""
        return None

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model."""
        raise TypeError(f"{type(self).__name__} has no entropy coder, so no frequency tables")

    def wire_options(self) -> dict[str, Any]:
        """Options that change what a payload's bytes mean to the decoder (JSON values)."""
        return {}

    @property
    def fingerprint(self) -> bytes:
        """Eight bytes that name everything two peers must share to decode each other's payloads."""
        digest = hashlib.sha256()
        identity = {
            "bottleneck": f"{type(self).__module__}.{type(self).__qualname__}",
            "version": self.payload_version,
            "options": self.wire_options(),
            "output_shape": self.output_shape,
        }
        digest.update(json.dumps(identity, sort_keys=True).encode())
        if self.tables is not None:
            digest.update(self.tables.digest())
        return digest.digest()[:8]

    def keep_shape(self) -> None:
        """For the constructor of a bottleneck that cannot change the shape.

        Raises:
            ValueError: input and output shape differ.
        """
        if self.output_shape != self.input_shape:
            name = type(self).__name__
            raise ValueError(
                f"{name} keeps the shape, but leads from {self.input_shape} to {self.output_shape}"
            )

    def check_features(self, features: Tensor) -> Tensor:
        """``features``, if their shape is [N, *input_shape] and all values are finite.

        Raises:
            ValueError: names the shape expected and found, or the first sample that is not finite.
        """
        if tuple(features.shape[1:]) != self.input_shape:
            expected = ("N", *self.input_shape)
            raise ValueError(f"features of shape {tuple(features.shape)}, expected {expected}")
        finite = torch.isfinite(features).flatten(1).all(1)
        if not bool(finite.all()):
            bad = int(np.flatnonzero(~finite.cpu().numpy())[0])
            raise ValueError(f"features of sample {bad} of the batch are not finite")
        return features
