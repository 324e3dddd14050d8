"""The discrete key-value bottleneck: indices of keys travel, and the server learns what they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bottlenecks.base import Bottleneck, NotFrozenError, PayloadError, Shape
from edge.bottlenecks.codebook import Codebooks, coded_information, frequency_tables
from edge.bottlenecks.options import whole_number
from edge.bottlenecks.registry import register
from edge.coding import CodingError, EntropyCoder, FrequencyTables

__all__ = ["KeyEncoder", "KeyValueBottleneck", "ValueMemory"]

Pooling = Literal["mean", "flatten"]
_POOLINGS = ("mean", "flatten")


@register("key-value")
class KeyValueBottleneck(Bottleneck):
    """Nearest keys on the device, learnable values on the server.

    ::

        features --pool--> vector --projection b--> nearest key of codebook b --> index b --> payload
        output <-- mean over b of values[b, index b]                    b = 0 .. codebooks - 1

    Traeuble, Goyal, Rahaman, Mozer, Kawaguchi, Bengio, Schoelkopf: "Discrete Key-Value Bottleneck", ICML
    2023, with their fixed random projections and, as decoder, the mean of the values. What stands ahead
    (the head of a trained network) is meant to be frozen; no gradient reaches it. Keys are placed without
    labels and then fixed; gradients reach the values alone, and of them only those that were looked up. So
    what is learnt of new classes leaves the values of the others as they are, under an optimiser without
    momentum and weight decay.

    Values and so what the server answers may be learnt further while devices stay as they are: payloads
    mean the same indices, and the fingerprint does not change. (Both halves of a bundle carry one id, of all
    their weights: saved anew with other values, it takes new device halves, too.)

    Keys start from the first batch of training, and follow it by moving averages
    (:class:`edge.bottlenecks.codebook.Codebooks`) until :meth:`calibrate` places them for good. Values
    start at zero, so that one never looked up in training says nothing. Indices are coded by their
    frequencies in what was observed, or at log2(codes) bits each where nothing was. The rate is set by
    ``codebooks`` and ``codes``.

    Args:
        input_shape: shape of one sample: a vector (D,), or a map (C, ...).
        output_shape: shape of a value: (classes,) where it stands for the classifier, that of the features
            where a tail follows. There are codebooks x codes values on the server.
        codebooks: indices of a payload.
        codes: keys of each codebook, 2 to 65534.
        key_dim: dimensions of a key.
        pooling: ``"mean"`` takes the mean of a map over its positions; ``"flatten"`` takes all its values.
        seed: of the projections.

    Raises:
        ValueError: options out of range.
    """

    learned = True
    rate_weighted = False

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int] | None = None,
        *,
        codebooks: int = 32,
        codes: int = 256,
        key_dim: int = 8,
        pooling: Pooling = "mean",
        seed: int = 0,
    ) -> None:
        super().__init__(input_shape, output_shape)
        whole_number("codebooks", codebooks, 1)
        whole_number("codes", codes, 2, 65534)
        whole_number("key_dim", key_dim, 1)
        whole_number("seed", seed, 0, 2**63 - 1)
        if pooling not in _POOLINGS:
            raise ValueError(f"pooling is {pooling!r}, allowed are {', '.join(map(repr, _POOLINGS))}")
        if not self.input_shape:
            raise ValueError("needs features of a shape (D,) or (C, ...), got ()")
        self.size = (codebooks, codes)
        self.encoder = KeyEncoder(self.input_shape, codebooks, codes, key_dim, pooling, seed)
        self.decoder = ValueMemory(codebooks, codes, self.output_shape)
        self._coder: EntropyCoder | None = None

    # --- training ---------------------------------------------------------------------------

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the values looked up, and bits [N] of the indices at their average use."""
        keys = self.encoder.keys
        if self.training and self._coder is None and not keys.settled:
            vectors = self.encoder.project(features)
            if not keys.started:
                keys.start(vectors)
            indices = keys.nearest(vectors)
            keys.update(vectors, indices)
        else:
            indices = self._indices(features)
        information = (
            keys.information() if self._coder is None else coded_information(self._coder.tables, keys.codes)
        )
        return self.decoder(indices), information.gather(1, indices).sum(0)

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> None:
        """Place the keys by k-means on ``features``, of whatever classes, and fix them; values start anew."""
        self.encoder.keys.start(self.encoder.project(features))
        self.encoder.keys.settle()
        self.decoder.values.zero_()

    @torch.no_grad()
    def observe(self, features: Tensor) -> None:
        """Count the indices that ``features`` are given."""
        self.encoder.keys.observe(self._indices(features))

    def freeze(self) -> None:
        """Make the frequency tables from the counts. From then on the keys stay as they are."""
        self.load_tables(frequency_tables(self.encoder.keys.counts))

    # --- running ----------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        """``codebooks`` entropy-coded indices a sample."""
        coder = self._frozen
        self.check_features(features)
        # One at a time: a product may round otherwise in another batch, and the payload with it.
        rows = (self._indices(sample[None]) for sample in features)
        return [coder.encode(row.cpu().numpy().astype(np.int32)) for row in rows]

    @torch.no_grad()
    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        """Means [N, *output_shape] of the values that the payloads' indices look up."""
        indices = np.concatenate([self._rows(payload) for payload in payloads], axis=1)
        output: Tensor = self.decoder(torch.from_numpy(indices).long().to(self.decoder.values.device))
        return output

    def transmit(self, features: Tensor) -> Tensor:
        """The mean of the values looked up; gradients reach these values only."""
        output: Tensor = self.decoder(self._indices(features))
        return output

    def ideal_bits(self, payload: bytes) -> float:
        """Information of the payload's indices under the frozen tables."""
        return float(self._frozen.tables.bits(self._rows(payload)).sum())

    @property
    def tables(self) -> FrequencyTables | None:
        """The frequency tables, one a codebook, once frozen."""
        return None if self._coder is None else self._coder.tables

    def load_tables(self, tables: FrequencyTables) -> None:
        """Take over the tables that were shipped with the model.

        Raises:
            ValueError: not one for each codebook, of as many symbols as there are codes.
        """
        codebooks, codes = self.size
        lengths = [len(table) - 1 for table in tables.frequencies]
        if lengths != [codes] * codebooks or tables.offsets.any():
            raise ValueError(
                f"frequency tables of {lengths} symbols for {codebooks} codebooks of {codes} codes"
            )
        self._coder = EntropyCoder(tables)

    def wire_options(self) -> dict[str, Any]:
        """The number of codebooks and of the codes of each."""
        return {"size": self.size}

    @property
    def _frozen(self) -> EntropyCoder:
        if self._coder is None:
            raise NotFrozenError("no frequency tables yet: call freeze() after training, or load them")
        return self._coder

    def _indices(self, features: Tensor) -> Tensor:
        """Indices [codebooks, N] of features [N, *input_shape]."""
        indices: Tensor = self.encoder(features)
        return indices

    def _rows(self, payload: bytes) -> NDArray[np.int32]:
        """Indices [codebooks, 1] of a payload."""
        try:
            rows = self._frozen.decode(payload, 1)
        except CodingError as error:
            raise PayloadError(str(error)) from error
        if rows.min() < 0 or rows.max() >= self.size[1]:
            raise PayloadError(f"payload with an index outside 0 to {self.size[1] - 1}")
        return rows


class KeyEncoder(nn.Module):
    """Fixed random projections of the pooled features, and the keys nearest to them.

    Args:
        input_shape: shape of one sample.
        codebooks, codes, key_dim, pooling, seed: as of :class:`KeyValueBottleneck`.
    """

    projections: Tensor

    def __init__(
        self, input_shape: Shape, codebooks: int, codes: int, key_dim: int, pooling: Pooling, seed: int
    ) -> None:
        super().__init__()
        self.pooling = pooling
        length = input_shape[0] if pooling == "mean" else math.prod(input_shape)
        # On the CPU also where the model is made without memory: there is no generator on "meta".
        generator = torch.Generator("cpu").manual_seed(seed)
        drawn = torch.randn(codebooks, length, key_dim, generator=generator, device="cpu")
        self.register_buffer("projections", drawn / math.sqrt(length))
        self.keys = Codebooks(codebooks, codes, key_dim)

    def prepare_training(self) -> None:
        """Attach what only the placing of the keys needs."""
        self.keys.prepare_training()

    @torch.no_grad()
    def project(self, features: Tensor) -> Tensor:
        """One vector a codebook, float64 [codebooks, N, key_dim], of features [N, *input_shape].

        In double precision, so that two ways of computing it cannot well disagree on the nearest key.
        """
        flat = features.detach().double().flatten(2 if self.pooling == "mean" and features.ndim > 2 else 1)
        pooled = flat.mean(2) if flat.ndim == 3 else flat
        return pooled[None] @ self.projections.double()

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Indices int64 [codebooks, N] of features [N, *input_shape]."""
        return self.keys.nearest(self.project(features))


class ValueMemory(nn.Module):
    """A learnable value for each key, zero to begin with.

    Args:
        codebooks, codes: number of values.
        value_shape: shape of a value.
    """

    def __init__(self, codebooks: int, codes: int, value_shape: Shape) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(codebooks, codes, *value_shape))

    def forward(self, indices: Tensor) -> Tensor:
        """Mean over the codebooks, [N, *value_shape], of the values at ``indices`` [codebooks, N]."""
        books = torch.arange(len(indices), device=indices.device)[:, None]
        return self.values[books, indices].mean(0)
