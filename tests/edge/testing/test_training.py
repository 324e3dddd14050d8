"""Clauses of training: who breaks one is told it, and no other, with the numbers."""

import pytest
import torch
from torch import Tensor

from edge.bottlenecks import Bottleneck
from edge.bottlenecks.base import TrainingPass

from .kit import Case, Mine, check, expect_told


class Cropped(Mine):
    """Loses the last column on the way."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        reconstruction, bits = super().forward(features)
        return reconstruction[..., :-1], bits


class BitsOfValues(Mine):
    """Estimates bits for each value instead of each sample."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        reconstruction, bits = super().forward(features)
        return reconstruction, bits[:, None].expand(-1, 5)


class NegativeBits(Mine):
    """Takes the logarithm with the wrong sign."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        reconstruction, bits = super().forward(features)
        return reconstruction, -bits


class WrongRate(Mine):
    """One rate for the whole batch."""

    def training_pass(self, features: Tensor) -> TrainingPass:
        return super().training_pass(features)._replace(rate=torch.tensor(3.0))


class InfinitePenalty(Mine):
    """A penalty that is not finite for one sample."""

    def training_pass(self, features: Tensor) -> TrainingPass:
        found = super().training_pass(features)
        return found._replace(penalty=found.penalty.index_fill(0, torch.tensor([1]), float("inf")))


class Detached(Mine):
    """Detaches its code from the encoder."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        noisy, bits = self.prior(self.encoder(features).detach())
        return self.decoder(noisy), bits


class Rounded(Mine):
    """Rounds its code, which has a gradient of zero."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        code = torch.round(self.encoder(features))
        return self.decoder(code), self.prior(code)[1]


class Anew(Mine):
    """Makes its density anew whenever it is asked to prepare."""

    def prepare_training(self) -> None:
        self.prior.density = None
        super().prepare_training()


class Leaking(Mine):
    """Lets the gradients of the second stage into its encoder."""

    def transmit(self, features: Tensor) -> Tensor:
        code = self.encoder(features)
        return self.decoder(code + (self.prior.dequantised(code) - code).detach())  # type: ignore[no-any-return]


class Untuned(Mine):
    """Does not let the second stage tune its decoder."""

    @torch.no_grad()
    def transmit(self, features: Tensor) -> Tensor:
        return super().transmit(features)


class OddRehearsal(Mine):
    """Rehearses the code instead of the reconstruction."""

    def rehearse(self, features: Tensor) -> Tensor:
        return self.encoder(features)  # type: ignore[no-any-return]


FORWARD = "forward returns (reconstruction, bits)"
PASS = "training_pass returns what a recipe minimises"
GRADIENTS = "gradients reach every parameter"
REHEARSAL = "rehearse and transmit train the decoder and not the encoder"


BROKEN: list[Case] = [
    (Cropped, FORWARD, ["(4, 3, 4, 3), expected (4, 3, 4, 4)"]),
    (BitsOfValues, FORWARD, ["bits has shape (4, 5), expected [N] = (4,)"]),
    (NegativeBits, FORWARD, ["bits lie in -", "expected finite and not negative"]),
    (WrongRate, PASS, ["rate has shape (), expected [N] = (4,)"]),
    (InfinitePenalty, PASS, ["penalty lie in 0..inf, expected finite"]),
    (Detached, GRADIENTS, ["no finite gradient for encoder.weight, encoder.bias (2 of ", "detach()"]),
    (Rounded, GRADIENTS, ["gradients of all 2 parameters of the encoder are zero", "round()"]),
    (Anew, "prepare_training attaches what training needs, once", ["prior.density", "parameters)"]),
    (Leaking, REHEARSAL, ["rehearse lets gradients into encoder.weight, encoder.bias (2 of 2"]),
    (Untuned, REHEARSAL, ["rehearse leaves decoder.weight, decoder.bias without a gradient (2 of 2"]),
    (OddRehearsal, REHEARSAL, ["rehearse: reconstruction has shape (4, 3, 2, 2), expected (4, 3, 4, 4)"]),
]


@pytest.mark.parametrize(("kind", "clause", "numbers"), BROKEN, ids=[kind.__name__ for kind, *_ in BROKEN])
def test_a_broken_bottleneck_is_told_its_clause_and_no_other(
    kind: type[Bottleneck], clause: str, numbers: list[str]
) -> None:
    expect_told(kind, clause, numbers)


def test_clauses_that_build_on_a_broken_one_are_listed_as_not_checked() -> None:
    error = check(Cropped)
    assert error is not None
    assert error.not_checked[PASS] == f"it builds on {FORWARD!r}"
    assert error.not_checked[GRADIENTS] == f"it builds on {PASS!r}"
    assert "not checked:" in str(error)
    assert f"  - {PASS}: it builds on " in str(error)


def test_one_that_cannot_be_made_breaks_what_needs_it_and_nothing_else() -> None:
    def make(shape: tuple[int, ...]) -> Bottleneck:
        raise OSError(f"no weights for {shape}")

    error = check(make)
    assert error is not None
    assert "the bottleneck breaks 2 of 2 clauses" in str(error)
    assert all("no weights for (3, 4, 4)" in message for message in error.broken.values())
