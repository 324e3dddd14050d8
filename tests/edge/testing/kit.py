"""What the tests of the kit have in common: two bottlenecks that keep the contract, and how to check one."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edge.bottlenecks import Bottleneck, FactorizedPrior, LatentBottleneck
from edge.bottlenecks.raw_features import Float32
from edge.testing import ConformanceError, check_bottleneck

#: A broken bottleneck, the clause that it breaks, and what the message says.
Case = tuple[type[Bottleneck], str, list[str]]
SHAPE = (3, 4, 4)


class Mine(LatentBottleneck):
    """What a third party writes: two networks and a prior. Nothing bounds its code."""

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int] | None = None) -> None:
        super().__init__(input_shape, output_shape)
        self.encoder: nn.Module = nn.Conv2d(input_shape[0], 3, 2, stride=2)
        self.decoder: nn.Module = nn.ConvTranspose2d(3, input_shape[0], 2, stride=2)
        self.prior = FactorizedPrior(3)
        self.code_shape = (3, input_shape[1] // 2, input_shape[2] // 2)


class Levels(Float32):
    """Two levels: half precision and single. Keeps the contract."""

    @property
    def levels(self) -> int:
        return 2

    def encode_at(self, features: Tensor, level: int) -> list[bytes]:
        if self.check_level(level) == 1:
            return self.encode(features)
        return [s.numpy().astype("<f2").tobytes() for s in self.check_features(features)]

    def transmit_at(self, features: Tensor, level: int) -> Tensor:
        return self.decode(self.encode_at(features, level))

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        half = 2 * int(np.prod(self.output_shape))
        wide = [np.frombuffer(p, "<f2").astype("<f4").tobytes() if len(p) == half else p for p in payloads]
        return super().decode(wide)


def check(kind: Callable[[tuple[int, ...]], Bottleneck]) -> ConformanceError | None:
    """What the kit says of a bottleneck."""
    torch.manual_seed(0)
    try:
        check_bottleneck(lambda: kind(SHAPE), torch.rand(4, *SHAPE))
    except ConformanceError as error:
        return error
    return None


def expect_told(kind: type[Bottleneck], clause: str, numbers: list[str]) -> None:
    """The kit names this clause and no other, with these numbers."""
    error = check(kind)
    assert error is not None, f"{kind.__name__} passed"
    assert list(error.broken) == [clause], str(error)
    message = error.broken[clause]
    assert [number for number in numbers if number not in message] == [], message
    assert f"{kind.__name__} breaks 1 of " in str(error)
    assert f"  - {clause}: {message}" in str(error)
