"""Every family keeps the contract; a bottleneck that does not is told which clause it breaks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edge.bottlenecks import Bottleneck, FactorizedPrior, LatentBottleneck, available, create
from edge.bottlenecks.base import PayloadError
from edge.bottlenecks.raw_features import Float32
from edge.testing import ConformanceError, check_bottleneck

FAMILIES: list[tuple[str, tuple[int, ...], tuple[int, ...] | None, dict[str, Any]]] = [
    ("factorized", (3, 16, 16), (8, 4, 4), {"channels": 6}),
    ("factorized", (3, 15, 13), (8, 8, 7), {"channels": 4}),
    ("factorized", (16, 5, 5), None, {"channels": 4, "encoder_channels": (8, 6), "decoder_channels": (7, 9)}),
    ("float32", (5, 3, 2), None, {}),
    ("float16", (5, 3, 2), None, {}),
    ("integer", (5, 3, 2), None, {}),
    ("integer", (7, 3, 3), None, {"bits": 1}),
    ("integer", (7, 3, 3), None, {"bits": 11}),
    ("raw-image", (1, 9, 7), None, {}),
    ("png", (3, 9, 7), None, {}),
    ("png", (1, 9, 7), None, {}),
    ("jpeg", (3, 16, 16), None, {"quality": 30}),
    ("jpeg", (1, 8, 8), None, {}),
    ("webp", (3, 16, 16), None, {"quality": 10}),
    ("webp", (1, 8, 8), None, {}),
]


@pytest.mark.parametrize(("name", "shape", "target", "options"), FAMILIES)
def test_every_family_conforms(
    name: str, shape: tuple[int, ...], target: tuple[int, ...] | None, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    report = check_bottleneck(lambda: create(name, shape, target, **options), torch.rand(6, *shape))
    assert len(report.payload_bytes) == 6


def test_every_registered_family_of_ours_is_in_the_list() -> None:
    ours = {name for name, origin in available().items() if origin.startswith("edge.")}
    assert ours == {name for name, *_ in FAMILIES}


class _Plugin(LatentBottleneck):
    """What a third party writes: two networks and a prior. Nothing bounds its code."""

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape, output_shape)
        self.encoder = torch.nn.Conv2d(input_shape[0], 3, 2, stride=2)
        self.decoder = torch.nn.ConvTranspose2d(3, input_shape[0], 2, stride=2)
        self.prior = FactorizedPrior(3)
        self.code_shape = (3, input_shape[1] // 2, input_shape[2] // 2)


def test_a_plain_plug_in_conforms() -> None:
    torch.manual_seed(0)
    report = check_bottleneck(lambda: _Plugin((3, 8, 8)), torch.rand(4, 3, 8, 8))
    assert max(report.payload_bytes) < 200


def test_features_may_be_of_any_memory_layout() -> None:
    features = torch.rand(4, 8, 8, 3).permute(0, 3, 1, 2)
    check_bottleneck(lambda: _Plugin((3, 8, 8)), features)


class _Leaky(Float32):
    """Adds the batch mean: its payloads depend on the batch."""

    def encode(self, features: Tensor) -> list[bytes]:
        return super().encode(features + features.mean(0, keepdim=True))


class _Lossy(Float32):
    """Drops the last value of each sample in its coder."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        features = super().decode(payloads).flatten(1).clone()
        features[:, -1] = 0
        return features.view(-1, *self.output_shape)

    def transmit(self, features: Tensor) -> Tensor:
        return features


class _Padded(Float32):
    """Pads its payloads far beyond their information."""

    def encode(self, features: Tensor) -> list[bytes]:
        return [payload + bytes(64) for payload in super().encode(features)]

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return super().decode([payload[:-64] for payload in payloads])

    def ideal_bits(self, payload: bytes) -> float:
        return 8.0 * (len(payload) - 64)


class _Random(Float32):
    """Decodes with noise."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        features = super().decode(payloads)
        return features + torch.rand_like(features)


class _Crashing(Float32):
    """Lets numpy's own errors out on damaged payloads."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return torch.stack(
            [torch.from_numpy(np.frombuffer(p, "<f4").copy()).view(self.output_shape) for p in payloads]
        )


class _NoGradient(Float32):
    """Claims to be learned, but detaches its input from its parameter."""

    learned = True

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape, output_shape)
        self.encoder = torch.nn.Conv2d(input_shape[0], input_shape[0], 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        reconstruction, bits = super().forward(features)
        return reconstruction.requires_grad_(), bits


class _Forgetful(Float32):
    """Keeps what it needs in a buffer that does not ship."""

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape, output_shape)
        self.register_buffer("scale", torch.ones(1), persistent=False)


class _Entangled(_Plugin):
    """Needs its decoder to encode."""

    def encode(self, features: Tensor) -> list[bytes]:
        self.decoder(torch.zeros(1, *self.code_shape))
        return super().encode(features)


class _WrongShape(Float32):
    """Estimates bits for each value instead of each sample."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, torch.full_like(features, 32.0)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (_Leaky, "payloads do not depend on the batch: 4 of 4 payloads differ"),
        (_Lossy, "the coder is lossless.*largest relative difference"),
        (_Padded, "payload size agrees with its information: sample 0: 112 bytes for 48.0 bytes"),
        (_Random, "decode is deterministic: two decodes differ"),
        (_Crashing, "a damaged payload raises PayloadError.*raised"),
        (_NoGradient, "gradients reach every parameter: no finite gradient for encoder.weight"),
        (_Forgetful, "every buffer is persistent.*scale would not ship"),
        (_WrongShape, r"bits has shape \(4, 3, 2, 2\), expected \[N\]"),
    ],
)
def test_a_broken_bottleneck_is_told_its_clause(broken: type[Bottleneck], says: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ConformanceError, match=says):
        check_bottleneck(lambda: broken((3, 2, 2)), torch.rand(4, 3, 2, 2))


def test_a_bottleneck_that_needs_its_peers_part_is_told() -> None:
    with pytest.raises(ConformanceError, match=r"a copy shipped to the device works there.*decoder"):
        check_bottleneck(lambda: _Entangled((3, 8, 8)), torch.rand(4, 3, 8, 8))


def test_two_samples_at_least() -> None:
    with pytest.raises(ValueError, match="at least two"):
        check_bottleneck(lambda: create("float32", (2,)), torch.rand(1, 2))


@pytest.mark.parametrize("name", ["float32", "float16", "integer", "raw-image", "png", "jpeg", "webp"])
def test_payloads_of_another_size_are_refused(name: str) -> None:
    small, large = create(name, (1, 8, 8)), create(name, (1, 8, 16))
    with pytest.raises(PayloadError, match="expected"):
        small.decode(large.encode(torch.rand(1, 1, 8, 16)))
