"""The Entropic Student bottleneck: published sizes, parity with CompressAI, adversarial input."""

import numpy as np
import pytest
import torch

from edge.bottlenecks import FactorizedPrior, NotFrozenError, create
from edge.bottlenecks.compressai_bridge import import_torchvision
from edge.bottlenecks.gdn import GDN1
from edge.bottlenecks.latent import LatentBottleneck


def entropic_student(side: int) -> LatentBottleneck:
    target = -(-side // 4)
    made = create(
        "factorized",
        (3, side, side),
        (256, target, target),
        encoder_channels=(96, 48),
        decoder_channels=(512, 256),
    )
    assert isinstance(made, LatentBottleneck)
    return made


@pytest.mark.parametrize(("side", "code"), [(32, 7), (64, 15), (224, 55)])
def test_published_sizes(side: int, code: int) -> None:
    # SC2's FPBasedResNetBottleneck: 138,672 and 1,164,032 parameters; codes 24x7x7, 24x15x15, 24x55x55.
    made = entropic_student(side)
    assert sum(p.numel() for p in made.encoder.parameters()) == 138_672
    assert sum(p.numel() for p in made.decoder.parameters()) == 1_164_032
    assert made.code_shape == (24, code, code)
    if side < 224:
        assert tuple(made.encoder(torch.rand(1, 3, side, side)).shape[1:]) == made.code_shape


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_agrees_with_compressai(inverse: bool) -> None:
    import_torchvision()
    from compressai.layers import GDN1 as Theirs

    torch.manual_seed(0)
    ours, theirs = GDN1(6, inverse=inverse), Theirs(6, inverse=inverse)
    theirs.gamma.data += 0.2 * torch.rand_like(theirs.gamma) - 0.1
    theirs.beta.data += 0.5 * torch.rand_like(theirs.beta)
    with torch.no_grad():
        ours.gamma.copy_(theirs.gamma)
        ours.beta.copy_(theirs.beta)
    x = torch.randn(3, 6, 4, 5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours(a).square().sum().backward()
    theirs(b).square().sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.gamma.grad, theirs.gamma.grad)
    torch.testing.assert_close(ours.beta.grad, theirs.beta.grad)


def test_gdn_starts_as_compressais_does() -> None:
    import_torchvision()
    from compressai.layers import GDN1 as Theirs

    x = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(GDN1(5)(x), Theirs(5)(x))


def fitted_prior(channels: int, scale: float = 2.0) -> tuple[FactorizedPrior, torch.Tensor]:
    torch.manual_seed(1)
    prior = FactorizedPrior(channels)
    prior.prepare_training()
    code = (
        torch.distributions.Laplace(torch.linspace(-3, 3, channels), scale)
        .sample((64, 8, 8))
        .permute(0, 3, 1, 2)
    )
    prior.fit_scale(code)
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        prior(code)[1].mean().backward()
        optimiser.step()
    return prior, code


def test_the_tables_follow_compressais_density() -> None:
    prior, code = fitted_prior(4)
    assert prior.density is not None
    prior.freeze()
    # CompressAI's own likelihood of the rounded code, against what our integer tables say of it.
    with torch.no_grad():
        prior.density.eval()
        rounded, likelihood = prior.density(code, training=False)
    assert prior.tables is not None
    ours = np.stack([prior.tables.bits(prior.symbols(sample)).sum() for sample in code])
    theirs = -likelihood.log2().flatten(1).sum(1).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    torch.testing.assert_close(prior.dequantised(code), rounded)
    for sample in code[:8]:
        torch.testing.assert_close(
            prior.code(prior.symbols(sample)).view_as(sample), prior.dequantised(sample[None])[0]
        )


def test_our_stream_is_no_longer_than_compressais() -> None:
    prior, code = fitted_prior(6)
    assert prior.density is not None
    prior.freeze()
    prior.density.update(force=True)
    theirs = [len(string) for string in prior.density.compress(code)]
    ours = [len(prior.coder.encode(prior.symbols(sample))) for sample in code]
    assert all(a <= b for a, b in zip(ours, theirs, strict=True))


def test_rate_in_training_agrees_with_coded_size() -> None:
    prior, code = fitted_prior(4)
    with torch.no_grad():
        estimated = float(prior(code)[1].mean())
    prior.freeze()
    coded = float(np.mean([8 * len(prior.coder.encode(prior.symbols(sample))) for sample in code]))
    assert coded == pytest.approx(estimated, rel=0.05)


def test_an_adversarial_code_round_trips_exactly() -> None:
    prior, _ = fitted_prior(3)
    prior.freeze()
    torch.manual_seed(5)
    for code in (
        torch.full((3, 4, 4), 2.0**31),
        torch.full((3, 4, 4), -3e38),
        torch.randn(3, 4, 4) * 1e9,
        torch.tensor([0.0, 1e4, -1e4, 2.0**24 + 1]).repeat(3, 4, 1),
    ):
        symbols = prior.symbols(code)
        assert np.array_equal(prior.coder.decode(prior.coder.encode(symbols), 16), symbols)


def test_training_and_coding_round_alike_at_every_boundary() -> None:
    prior, _ = fitted_prior(3)
    prior.freeze()
    halves = torch.arange(-300, 300).float() + 0.5
    code = (halves + prior.medians[:, None]).view(1, 3, 20, 30)
    nudges = torch.tensor([0.0, 1e-6, -1e-6, 1e-5, -1e-5])
    for nudge in nudges:
        moved = code + nudge
        assert torch.equal(prior.code(prior.symbols(moved[0])).view(3, 20, 30), prior.dequantised(moved)[0])


def test_a_code_that_is_not_a_number_is_refused() -> None:
    prior, _ = fitted_prior(2)
    prior.freeze()
    with pytest.raises(ValueError, match="not numbers"):
        prior.symbols(torch.full((2, 2, 2), float("nan")))


def test_the_fingerprint_names_the_medians_too() -> None:
    made = create("factorized", (1, 8, 8), (4, 4, 4), channels=2)
    assert isinstance(made, LatentBottleneck)
    before = made.fingerprint
    made.prior.medians += 0.3
    assert made.fingerprint != before


def test_coding_before_freeze_says_what_to_do() -> None:
    made = create("factorized", (1, 8, 8), (4, 4, 4), channels=2)
    with pytest.raises(NotFrozenError, match="freeze"):
        made.encode(torch.rand(1, 1, 8, 8))
    with pytest.raises(RuntimeError, match="prepare_training"):
        made(torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "target", "says"),
    [
        ((1, 8, 8), (4, 3, 3), "ratio 1, 2 or 4"),
        ((8,), (8,), r"needs shapes \(C, H, W\)"),
        ((1, 1, 1), None, "at least 2"),
    ],
)
def test_shapes_that_the_layers_cannot_lead_between(
    shape: tuple[int, ...], target: tuple[int, ...] | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        create("factorized", shape, target)


def test_the_fingerprint_names_the_tables() -> None:
    prior, _ = fitted_prior(2)
    prior.freeze()
    assert prior.tables is not None
    made = create("factorized", (1, 8, 8), (4, 4, 4), channels=2)
    without = made.fingerprint
    made.load_tables(prior.tables)
    assert made.fingerprint != without
    with pytest.raises(ValueError, match="2 frequency tables for 3 channels"):
        create("factorized", (1, 8, 8), (4, 4, 4), channels=3).load_tables(prior.tables)


def test_a_prior_starts_at_the_scale_of_the_code() -> None:
    torch.manual_seed(0)
    for deviation in (1.0, 300.0):
        code = torch.randn(256, 2, 4, 4) * deviation
        entropy = 16 * 2 * np.log2(deviation * np.sqrt(2 * np.pi * np.e))
        prior = FactorizedPrior(2)
        prior.prepare_training()
        with torch.no_grad():
            before = float(prior(code)[1].mean())
            prior.fit_scale(code)
            after = float(prior(code)[1].mean())
        assert after < 1.15 * entropy + 16 < before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": 0}, "channels is 0, allowed are whole numbers of 1 or more"),
        ({"channels": 2.5}, r"channels is 2\.5"),
        ({"channels": "a"}, "channels is 'a'"),
        ({"encoder_channels": [4]}, r"encoder_channels is \[4\], allowed are two widths"),
        ({"encoder_channels": 5}, r"encoder_channels is 5, allowed are two widths"),
        ({"decoder_channels": [4, 0]}, r"decoder_channels\[1\] is 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create("factorized", (1, 8, 8), (4, 4, 4), **options)
