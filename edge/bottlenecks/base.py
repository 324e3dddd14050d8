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
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edge.bottlenecks.options import whole_number
from edge.coding.tables import FrequencyTables

__all__ = ["Bottleneck", "NotFrozenError", "PayloadError", "Shape", "TrainingPass"]

Shape = tuple[int, ...]


class PayloadError(ValueError):
    """A payload that this bottleneck cannot have produced. The message says what was expected."""


class NotFrozenError(RuntimeError):
    """Coding was asked for before :meth:`Bottleneck.freeze` had made the frequency tables."""


class TrainingPass(NamedTuple):
    """What a recipe minimises: a distortion of the reconstruction, ``beta`` times the rate, the penalty."""

    reconstruction: Tensor  #: [N, *output_shape]
    bits: Tensor  #: estimated information of each sample, [N]
    rate: Tensor  #: what beta weighs, [N]: the bits, unless the family says otherwise
    penalty: Tensor  #: what the family adds to the loss as it is, [N], in units of distortion


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
    #: Whether, if learned, its rate is trained against the distortion, so that a recipe needs a beta.
    rate_weighted: ClassVar[bool] = True
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

    @property
    def levels(self) -> int:
        """Rates between which a sample may choose when it is encoded: level 0, the lowest, and up.

        Payloads of all levels decode alike. :meth:`encode` and :meth:`transmit` take the highest.
        """
        return 1

    def encode_at(self, features: Tensor, level: int) -> list[bytes]:
        """As :meth:`encode`, at a level of ``0 .. levels - 1``.

        Raises:
            ValueError: no such level.
        """
        self.check_level(level)
        return self.encode(features)

    def transmit_at(self, features: Tensor, level: int) -> Tensor:
        """As :meth:`transmit`, at a level of ``0 .. levels - 1``.

        Raises:
            ValueError: no such level.
        """
        self.check_level(level)
        return self.transmit(features)

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

    def training_pass(self, features: Tensor) -> TrainingPass:
        """:meth:`forward` with the terms of the loss that are the family's own. By default there are none."""
        reconstruction, bits = self(features)
        return TrainingPass(reconstruction, bits, bits, torch.zeros_like(bits))

    def rehearse(self, features: Tensor) -> Tensor:
        """:meth:`transmit` for the training of decoder and tail behind a frozen encoder, [N, *output_shape].

        What varies when it runs (the level, lost packets) is drawn at random for each sample. By default
        nothing does.
        """
        return self.transmit(features)

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

    def observe(self, features: Tensor) -> None:
        """Take note of ``features`` [N, *input_shape] for what :meth:`freeze` makes from data.

        A recipe calls it, batch by batch, with trained weights just before it freezes. By default nothing.
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

    @property
    def constant_bytes(self) -> int:
        """Bytes of a payload that say nothing of its sample: the header of a file format."""
        return 0

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

    def check_level(self, level: int) -> int:
        """``level``, if it is one of ``0 .. levels - 1``.

        Raises:
            ValueError: names the level and what is allowed.
        """
        return whole_number("level", level, 0, self.levels - 1)

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
