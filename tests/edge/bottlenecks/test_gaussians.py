"""Closed forms against torch, against numeric integration, and in the tails."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from edge.bottlenecks.gaussians import bin_mass, cauchy_schwarz, kullback_leibler

means = st.floats(-5, 5)
deviations = st.floats(0.05, 5)


def doubles(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@given(means, deviations, means, deviations)
def test_kullback_leibler_is_torchs_in_bits(mu: float, sigma: float, m: float, s: float) -> None:
    ours = kullback_leibler(*doubles(mu, sigma, m, s))
    theirs = kl_divergence(Normal(*doubles(mu, sigma)), Normal(*doubles(m, s))) / math.log(2)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@given(means, deviations, means, deviations)
def test_cauchy_schwarz_is_its_definition_integrated(mu: float, sigma: float, m: float, s: float) -> None:
    grid = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    p, q = Normal(*doubles(mu, sigma)).log_prob(grid).exp(), Normal(*doubles(m, s)).log_prob(grid).exp()
    (pq, pp, qq) = (torch.trapezoid(product, grid) for product in (p * q, p * p, q * q))
    ours = cauchy_schwarz(*doubles(mu, sigma, m, s))
    if pq > 1e-120:  # its square is a number
        torch.testing.assert_close(ours, -torch.log2(pq.square() / (pp * qq)), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours, cauchy_schwarz(*doubles(m, s, mu, sigma)))
    assert float(ours) >= -1e-12


def test_divergences_agree_with_monte_carlo() -> None:
    torch.manual_seed(0)
    p, q = Normal(*doubles(0.4, 0.6)), Normal(*doubles(-0.3, 1.1))
    drawn = p.sample(torch.Size([400_000]))
    inside = drawn[: len(drawn) // 2]
    estimate = (p.log_prob(inside) - q.log_prob(inside)).mean() / math.log(2)
    assert float(kullback_leibler(*doubles(0.4, 0.6, -0.3, 1.1))) == pytest.approx(float(estimate), abs=0.01)
    # Each integral of a product of densities is the mean of one over draws of the other.
    pq, pp = q.log_prob(drawn).exp().mean(), p.log_prob(drawn).exp().mean()
    qq = q.log_prob(q.sample(drawn.shape)).exp().mean()
    estimate = -torch.log2(pq.square() / (pp * qq))
    assert float(cauchy_schwarz(*doubles(0.4, 0.6, -0.3, 1.1))) == pytest.approx(float(estimate), abs=0.01)


@given(means, deviations, st.floats(0.05, 4))
def test_bins_share_out_all_the_mass(mean: float, deviation: float, width: float) -> None:
    m, s, w = doubles(mean, deviation, width)
    last = math.ceil(12 * deviation / width) + math.ceil(5 / width) + 1
    centres = torch.arange(-last, last + 1) * w
    assert float(bin_mass(centres, w, m, s).sum()) == pytest.approx(1.0, abs=1e-12)


def test_both_tails_are_precise() -> None:
    far = torch.tensor([-9.0, 9.0], dtype=torch.float64)
    left, right = bin_mass(far, *doubles(0.01, 0.0, 1.0)).tolist()
    assert left == right
    assert left == pytest.approx(0.01 * math.exp(-40.5) / math.sqrt(2 * math.pi), rel=1e-2)
