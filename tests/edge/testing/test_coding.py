"""Clauses of running: who breaks one is told it, and no other, with the numbers."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.bottlenecks import Bottleneck
from edge.bottlenecks.base import PayloadError
from edge.bottlenecks.raw_features import Float32

from .kit import Case, Levels, Mine, expect_told


class NoneBeforeFreeze(Mine):
    """Trips over its absent tables instead of saying that it is not frozen."""

    def encode(self, features: Tensor) -> list[bytes]:
        if self.tables is None:
            raise TypeError("no tables")
        return super().encode(features)


class EarlyPayloads(Mine):
    """Codes without tables, in a format of its own."""

    def encode(self, features: Tensor) -> list[bytes]:
        if self.tables is None:
            return [sample.numpy().tobytes() for sample in self.encoder(features).detach()]
        return super().encode(features)


class Unfinished(Mine):
    """Cannot be frozen."""

    def freeze(self) -> None:
        raise RuntimeError("7 samples were not observed")


class Dithered(Float32):
    """Draws its dither from the global generator, so that no two encodings are the same."""

    def encode(self, features: Tensor) -> list[bytes]:
        return super().encode(self.check_features(features) + torch.rand_like(features))


class BatchNormalised(Mine):
    """Encodes in training mode, with the statistics of the batch."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape)
        self.encoder = nn.Sequential(self.encoder, nn.BatchNorm2d(3, momentum=0.0), Scaled())

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        code = self.encoder.train()(self.check_features(features))
        return [self.prior.coder.encode(self.prior.symbols(sample)) for sample in code]

    def transmit(self, features: Tensor) -> Tensor:
        self.encoder.train()
        return super().transmit(features)


class Scaled(nn.Module):
    """Spreads a code of width 1 over a few symbols."""

    def forward(self, code: Tensor) -> Tensor:
        return 5 * code


class Padded(Float32):
    """Sends the values above a half only, and pads to the longest of the batch."""

    def encode(self, features: Tensor) -> list[bytes]:
        chosen = [s.flatten()[s.flatten() > 0.5].numpy() for s in self.check_features(features)]
        longest = max(map(len, chosen))
        return [np.pad(c, (0, longest - len(c))).astype("<f4").tobytes() for c in chosen]

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return torch.zeros(len(payloads), *self.output_shape)

    def transmit(self, features: Tensor) -> Tensor:
        return torch.zeros(len(features), *self.output_shape)


class WrongDecodedShape(Float32):
    """Decodes to a flat vector."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return super().decode(payloads).flatten(1)

    def transmit(self, features: Tensor) -> Tensor:
        return features


class Double(Float32):
    """Decodes in double precision."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return super().decode(payloads).double()

    def transmit(self, features: Tensor) -> Tensor:
        return features


class Noisy(Float32):
    """Decodes with noise."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        features = super().decode(payloads)
        return features + torch.rand_like(features)


class Centred(Float32):
    """Takes the mean of the batch away when it decodes."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        features = super().decode(payloads)
        return features - features.mean(0)


class Lossy(Float32):
    """Drops the last value of each sample in its coder."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        features = super().decode(payloads).flatten(1).clone()
        features[:, -1] = 0
        return features.view(-1, *self.output_shape)

    def transmit(self, features: Tensor) -> Tensor:
        return features


class LossyBehindZeros(Mine):
    """Codes other symbols than its own, ahead of a decoder that makes zeros of all until it is trained."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape)
        for parameter in self.decoder.parameters():
            nn.init.zeros_(parameter)

    @torch.no_grad()
    def encode(self, features: Tensor) -> list[bytes]:
        coder = self.prior.coder
        codes = [self.encoder(sample[None])[0] for sample in self.check_features(features)]
        return [coder.encode(self.prior.symbols(code) + np.int32(3)) for code in codes]


class Wasteful(Float32):
    """Pads each payload far beyond its information."""

    def encode(self, features: Tensor) -> list[bytes]:
        return [payload + bytes(64) for payload in super().encode(features)]

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return super().decode([payload[:-64] for payload in payloads])

    def ideal_bits(self, payload: bytes) -> float:
        return 8.0 * (len(payload) - 64)


class Boastful(Float32):
    """Claims twice the information that is there."""

    def ideal_bits(self, payload: bytes) -> float:
        return 16.0 * len(payload)


class MostlyHeader(Float32):
    """Says that more is constant than there is."""

    @property
    def constant_bytes(self) -> int:
        return 193


class Overflowing(Float32):
    """Packs its values as 32-bit integers of a thousandth, and has no escape."""

    def encode(self, features: Tensor) -> list[bytes]:
        values = (self.check_features(features).flatten(1) * 1000).round().tolist()
        return [struct.pack(f"<{len(sample)}i", *map(int, sample)) for sample in values]

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        expected = 4 * int(np.prod(self.output_shape))
        if any(len(payload) != expected for payload in payloads):
            raise PayloadError(f"expected {expected} bytes")
        values = np.stack([np.frombuffer(p, "<i4") for p in payloads]) / 1000
        return torch.from_numpy(values.astype(np.float32)).view(-1, *self.output_shape)


class LevelIgnored(Float32):
    """Says that it has four levels, and has one."""

    @property
    def levels(self) -> int:
        return 4


class UpsideDown(Levels):
    """Counts its levels from the highest down."""

    def encode_at(self, features: Tensor, level: int) -> list[bytes]:
        return super().encode_at(features, 1 - self.check_level(level))


class OtherLevelTransmitted(Levels):
    """Transmits at the highest level, whichever is asked for."""

    def transmit_at(self, features: Tensor, level: int) -> Tensor:
        self.check_level(level)
        return self.transmit(features)


class AnyLevel(Levels):
    """Takes what comes for a level: Python counts from the end."""

    def encode_at(self, features: Tensor, level: int) -> list[bytes]:
        return super().encode_at(features, range(2)[level] if level < 2 else 1)


EARLY = "encode before freeze raises NotFrozenError"
BATCH = "payloads do not depend on the batch"
LOSSLESS = "the coder is lossless: decode(encode(x)) equals transmit(x)"
DECODED = "decode gives features of the output shape"
SIZE = "payload size agrees with its information"


BROKEN: list[Case] = [
    (NoneBeforeFreeze, EARLY, ["TypeError: no tables (test_coding.py:", "expected NotFrozenError"]),
    (EarlyPayloads, EARLY, ["gave 4 payloads before there were tables"]),
    (Unfinished, "observe and freeze end the training", ["RuntimeError: 7 samples were not observed"]),
    (Dithered, "encode is deterministic", ["4 of 4 payloads differ; the first is sample 0: 192 bytes"]),
    (BatchNormalised, BATCH, ["coded alone: 4 of 4 payloads differ", "batch normalisation in training mode"]),
    (Padded, BATCH, ["coded alone: 3 of 4 payloads differ", "padding to the longest"]),
    (WrongDecodedShape, DECODED, ["decoded shape (4, 48), expected (4, 3, 4, 4)"]),
    (Double, DECODED, ["decoded values are torch.float64, expected torch.float32"]),
    (Noisy, "decode is deterministic", ["two decodes differ in 192 of 192 values, by up to 0."]),
    (Centred, "a sample decodes alone as it does in a batch", ["largest relative difference", "0.0001"]),
    (Lossy, LOSSLESS, ["largest relative difference 0."]),
    (LossyBehindZeros, LOSSLESS, ["largest relative difference 0."]),
    (Wasteful, SIZE, ["sample 0: 256 bytes for 192.0 bytes of information, allowed are 183.0 to 201.0"]),
    (Boastful, SIZE, ["sample 0: 192 bytes for 384.0 bytes of information", "claims what is not"]),
    (MostlyHeader, "constant_bytes are part of every payload", ["193, but the smallest payload has 192"]),
    (Overflowing, "extreme features neither crash nor lose a symbol", ["features times 1e+12: raised error"]),
    (
        LevelIgnored,
        "each level has payloads of its own, the lowest the smallest",
        ["levels 0 and 1 of 4 give the same payloads"],
    ),
    (
        UpsideDown,
        "the highest level is what encode and transmit take",
        ["encode_at(features, 1) and encode(features): 4 of 4 payloads differ", "96 bytes against 192"],
    ),
    (OtherLevelTransmitted, "payloads of all levels decode, one beside the other", ["level 0: largest"]),
    (AnyLevel, "a level that there is not is refused", ["encode_at(features, -1) raised nothing"]),
]


@pytest.mark.parametrize(("kind", "clause", "numbers"), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN])
def test_a_broken_bottleneck_is_told_its_clause_and_no_other(
    kind: type[Bottleneck], clause: str, numbers: list[str]
) -> None:
    expect_told(kind, clause, numbers)
