"""Clauses of shipping and of bad input: who breaks one is told it, and no other, with the numbers."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.bottlenecks import Bottleneck
from edge.bottlenecks.raw_features import Float32

from .kit import Case, Mine, check, expect_told


class ReadsValues(Mine):
    """Reads a tensor's value in the constructor."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape)
        self.widest = float(torch.ones(3).max())


class Forgetful(Float32):
    """Keeps what it needs in a buffer that does not ship."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape)
        self.register_buffer("scale", torch.ones(1), persistent=False)


class Entangled(Mine):
    """Needs its decoder to encode."""

    def encode(self, features: Tensor) -> list[bytes]:
        self.decoder(torch.zeros(1, *self.code_shape))
        return super().encode(features)


class Attribute(Float32):
    """Keeps what freeze makes in an attribute, which does not ship."""

    scale = 1.0

    def freeze(self) -> None:
        self.scale = 2.0

    def encode(self, features: Tensor) -> list[bytes]:
        return super().encode(features * self.scale)

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return super().decode(payloads)


class Asymmetric(Float32):
    """Its server's half asks for the encoder."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape)
        self.encoder = nn.Identity()

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        return self.encoder(super().decode(payloads))  # type: ignore[no-any-return]


class Grown(Float32):
    """Makes a buffer of another shape when it freezes."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__(input_shape)
        self.register_buffer("counts", torch.zeros(0))

    def freeze(self) -> None:
        self.counts = torch.ones(7)


class UnsteadyFingerprint(Float32):
    """Puts the number of times it was asked into its fingerprint."""

    asked = 0

    def wire_options(self) -> dict[str, int]:
        self.asked += 1
        return {"asked": self.asked}


class ArrayOption(Float32):
    """Has an option that is no JSON value."""

    def wire_options(self) -> dict[str, object]:
        return {"bits": np.int64(3)}


class AnyShape(Float32):
    """Does not look at what it gets, beyond its being finite."""

    def check_features(self, features: Tensor) -> Tensor:
        if not bool(torch.isfinite(features).all()):
            raise ValueError("not finite")
        return features


class AnyValue(Float32):
    """Looks at the shape alone."""

    def check_features(self, features: Tensor) -> Tensor:
        super().check_features(torch.zeros_like(features))
        return features


class Crashing(Float32):
    """Lets NumPy's own errors out on damaged payloads."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        arrays = [torch.from_numpy(np.frombuffer(p, "<f4").copy()) for p in payloads]
        return torch.stack([array.view(self.output_shape) for array in arrays])


class Lenient(Float32):
    """Decodes as much as there is."""

    def decode(self, payloads: Sequence[bytes]) -> Tensor:
        if len(payloads) == 1 and len(payloads[0]) != 192:
            return torch.zeros(1, len(payloads[0]))
        return super().decode(payloads)


DEVICE, SERVER = (f"a copy shipped to the {half} works there" for half in ("device", "server"))
FINGERPRINT = "the fingerprint is the same wherever it is computed"
DAMAGED = "a damaged payload raises PayloadError or decodes to the right shape"


BROKEN: list[Case] = [
    (ReadsValues, "the constructor also runs on the meta device", ["Tensor.item()", "have no values"]),
    (Forgetful, "every buffer is persistent, so that it ships", ["scale would not ship (1 buffers)"]),
    (Entangled, DEVICE, ["the decoder of this bottleneck does not ship with the device half"]),
    (Asymmetric, SERVER, ["the encoder of this bottleneck does not ship with the server half"]),
    (UnsteadyFingerprint, FINGERPRINT, ["it was ", ", then "]),
    (ArrayOption, FINGERPRINT, ["wire_options() are no JSON values", "int64"]),
    (AnyShape, "features of a wrong shape are refused", ["features of shape (4, 3, 4, 3): no ValueError"]),
    (AnyValue, "features that are not finite are refused", ["features with one value nan: no ValueError"]),
    (Crashing, DAMAGED, ["no bytes: raised RuntimeError", "expected PayloadError"]),
    (Lenient, DAMAGED, ["no bytes: decoded to shape (0,), expected (3, 4, 4)"]),
]


@pytest.mark.parametrize(("kind", "clause", "numbers"), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN])
def test_a_broken_bottleneck_is_told_its_clause_and_no_other(
    kind: type[Bottleneck], clause: str, numbers: list[str]
) -> None:
    expect_told(kind, clause, numbers)


def test_what_freeze_leaves_in_an_attribute_is_missed_by_the_device() -> None:
    error = check(Attribute)
    assert error is not None
    assert "its encode gives others: 4 of 4 payloads differ" in error.broken[DEVICE]


def test_a_buffer_that_changes_its_shape_is_missed_by_both_halves() -> None:
    error = check(Grown)
    assert error is not None
    assert list(error.broken) == [DEVICE, SERVER]
    assert "size mismatch for counts" in error.broken[DEVICE]
