"""A stochastic code: what its rate and bits are, how it is rounded, and that it carries what a task needs."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edge.bottlenecks import NotFrozenError
from edge.bottlenecks.gaussians import cauchy_schwarz, kullback_leibler
from edge.bottlenecks.information import GaussianPrior, InformationBottleneck


def problem(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten numbers, of which two say what the answer is."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 10, generator=generator)
    return x, (torch.sin(x[:, :1]) + 0.5 * x[:, 1:2]) * 2


def regressor(divergence: str, beta: float) -> InformationBottleneck:
    torch.manual_seed(0)
    bottleneck = InformationBottleneck((10,), (1,), channels=3, divergence=divergence)  # type: ignore[arg-type]
    x, y = problem(1024, 0)
    optimiser = torch.optim.Adam(bottleneck.parameters(), 1e-2)
    for step in range(200):
        if step == 30:
            bottleneck.calibrate(x)
        drawn = torch.randint(len(x), (64,))
        done = bottleneck.training_pass(x[drawn])
        optimiser.zero_grad()
        ((done.reconstruction - y[drawn]).square().sum(1) + beta * done.rate).mean().backward()
        optimiser.step()
    bottleneck.eval()
    for part in x.split(256):
        bottleneck.observe(part)
    bottleneck.freeze()
    return bottleneck


@pytest.fixture(scope="module", params=["kl", "cauchy-schwarz"])
def trained(request: pytest.FixtureRequest) -> InformationBottleneck:
    return regressor(request.param, 0.05)


def test_a_regression_gets_through_in_a_few_bytes(trained: InformationBottleneck) -> None:
    x, y = problem(400, 1)
    payloads = trained.encode(x)
    error = float((trained.decode(payloads) - y).square().mean())
    assert error < 0.15 * float(y.var())  # of what predicting the mean would leave
    assert sum(map(len, payloads)) / len(payloads) < 4  # the ten numbers are 40 bytes


def test_beta_buys_bits_with_error(trained: InformationBottleneck) -> None:
    x, y = problem(400, 1)
    found = []
    for bottleneck in (trained, regressor(trained.divergence, 1.0)):
        payloads = bottleneck.encode(x)
        bits = np.mean([bottleneck.ideal_bits(payload) for payload in payloads])
        found.append((bits, float((bottleneck.decode(payloads) - y).square().mean())))
    (many, good), (few, bad) = found
    assert many > few + 1
    assert good < bad


def test_the_bits_in_training_are_those_of_the_payload(trained: InformationBottleneck) -> None:
    x, _ = problem(400, 2)
    with torch.no_grad():
        estimated = float(trained(x)[1].mean())
    coded = np.mean([trained.ideal_bits(payload) for payload in trained.encode(x)])
    assert coded == pytest.approx(estimated, rel=0.05)


@pytest.mark.parametrize(
    ("divergence", "closed"), [("kl", kullback_leibler), ("cauchy-schwarz", cauchy_schwarz)]
)
def test_the_rate_is_the_divergence_from_the_prior(divergence: Any, closed: Any) -> None:
    torch.manual_seed(0)
    bottleneck = InformationBottleneck((3, 8, 8), (4, 4, 4), channels=5, divergence=divergence)
    with torch.no_grad():
        bottleneck.prior.mean.normal_()
        bottleneck.prior.log_deviation.normal_()
    x = torch.rand(4, 3, 8, 8)
    mean, deviation = bottleneck._stochastic(x)
    assert mean.shape == deviation.shape == (4, *bottleneck.code_shape)
    m, s = (value.view(5, 1, 1) for value in bottleneck.prior.parameters_beside(mean))
    expected = closed(mean, deviation, m, s).flatten(1).sum(1)
    done = bottleneck.training_pass(x)
    torch.testing.assert_close(done.rate, expected)
    done.rate.sum().backward()
    assert bottleneck.prior.log_deviation.grad is not None
    assert bool(bottleneck.prior.log_deviation.grad.any())


def test_rounding_makes_the_noise_that_training_had() -> None:
    deviations = torch.tensor([0.2, 1.5])
    prior = GaussianPrior(2)
    prior.set_grid(math.sqrt(12) * deviations)
    mean = torch.linspace(-400, 400, 20_001).expand(1, 2, -1)
    error = prior.dequantised(prior.rounded(mean)) - mean
    torch.testing.assert_close(error.square().mean((0, 2)).sqrt(), deviations, rtol=0.01, atol=0)


def test_a_fine_grid_costs_a_quarter_bit_more_than_the_divergence() -> None:
    """Entropy-coded scalar quantisation: log2(2 pi e / 12) / 2 = 0.254 bits, at high rates."""
    torch.manual_seed(0)
    prior = GaussianPrior(1)
    deviation = torch.full((1, 50_000), 0.02)
    mean = torch.randn(1, 50_000)
    prior.fit(mean, deviation)
    prior.set_grid(math.sqrt(12) * deviation[:, 0])
    prior.freeze()
    assert prior.tables is not None
    bits = float(prior.tables.bits(prior.rounded(mean[None])[0].numpy().astype(np.int32)).mean())
    with torch.no_grad():
        divergence = float(kullback_leibler(mean, deviation, *prior.parameters_beside(mean[None])).mean())
    assert bits - divergence == pytest.approx(math.log2(2 * math.pi * math.e / 12) / 2, abs=0.02)


def test_a_prior_starts_at_the_codes_own_moments() -> None:
    torch.manual_seed(0)
    prior = GaussianPrior(2)
    mean = torch.randn(2, 10_000) * torch.tensor([[3.0], [0.1]]) + torch.tensor([[1.0], [-2.0]])
    deviation = torch.full_like(mean, 0.5)
    prior.fit(mean, deviation)
    _, s = prior.parameters_beside(mean[None])
    torch.testing.assert_close(prior.mean.detach(), torch.tensor([1.0, -2.0]), rtol=0, atol=0.1)
    torch.testing.assert_close(s.detach()[:, 0], torch.tensor([9.25, 0.26]).sqrt(), rtol=0.02, atol=0)


def test_what_is_observed_does_not_depend_on_the_batches() -> None:
    steps = []
    for size in (1, 7, 40):
        torch.manual_seed(0)
        bottleneck = InformationBottleneck((6,), channels=4).eval()
        for part in torch.rand(40, 6).split(size):
            bottleneck.observe(part)
        bottleneck.freeze()
        steps.append(bottleneck.prior.steps.clone())
        bottleneck.freeze()  # again, without having observed again
        assert torch.equal(bottleneck.prior.steps, steps[-1])
    torch.testing.assert_close(steps[1], steps[0])
    torch.testing.assert_close(steps[2], steps[0])


def test_what_is_missing_or_out_of_range_is_named(trained: InformationBottleneck) -> None:
    fresh = InformationBottleneck((6,), channels=4)
    with pytest.raises(RuntimeError, match="observe"):
        fresh.freeze()
    for act in (fresh.encode, fresh.transmit):
        with pytest.raises(NotFrozenError, match="freeze"):
            act(torch.rand(1, 6))
    for options, says in (
        ({"divergence": "js"}, "divergence is 'js', allowed are kl, cauchy-schwarz"),
        ({"divergence": ["kl"]}, r"divergence is \['kl'\], allowed"),
        ({"encoder_channels": ()}, r"encoder_channels is \(\), allowed are two widths"),
        ({"step": 0}, "step is 0, allowed are numbers of more than 0"),
        ({"encoder_channels": (3,)}, "allowed are two widths"),
        ({"channels": 0}, "channels is 0"),
    ):
        with pytest.raises(ValueError, match=says):
            InformationBottleneck((6,), **options)  # type: ignore[arg-type]
    assert trained.tables is not None
    with pytest.raises(ValueError, match="3 frequency tables for 4 channels"):
        fresh.load_tables(trained.tables)
