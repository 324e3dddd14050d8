"""The Gaussian conditional: parity with CompressAI, and tables that say what the density says."""

import math

import numpy as np
import pytest
import torch

from edge.bottlenecks import gaussian_conditional as gaussian
from edge.bottlenecks.compressai_bridge import import_torchvision


def compressais() -> torch.nn.Module:
    import_torchvision()
    from compressai.entropy_models import GaussianConditional

    scales = np.exp(np.linspace(math.log(0.11), math.log(256), 64)).tolist()
    return GaussianConditional(scales)


def test_likelihood_and_gradients_agree_with_compressai() -> None:
    theirs = compressais()
    torch.manual_seed(0)
    values, means = torch.randn(500) * 20, torch.randn(500) * 20
    # The first tenth so far out that its likelihood is the least there is.
    values[:50] += 1e4
    scales = torch.rand(500) * 30 + 0.11
    inputs = [t.clone().requires_grad_() for t in (values, means, scales)]
    others = [t.clone().requires_grad_() for t in (values, means, scales)]
    ours = gaussian.bits(inputs[0] - inputs[1], inputs[2])
    expected = -theirs.likelihood_lower_bound(theirs._likelihood(others[0], others[2], others[1])).log2()
    torch.testing.assert_close(ours, expected)
    assert float(ours[0].detach()) == pytest.approx(-math.log2(1e-9))
    ours.sum().backward()
    expected.sum().backward()
    for a, b in zip(inputs, others, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_the_scale_table_is_compressais() -> None:
    theirs = compressais().scale_table
    torch.testing.assert_close(gaussian.scale_of(torch.arange(64.0)), theirs)


def test_a_level_outside_the_table_learns_its_way_back_and_no_further_out() -> None:
    level = torch.tensor([-3.0, -3.0, 70.0, 70.0, 5.0], requires_grad=True)
    scale = gaussian.scale_of(level)
    assert scale.detach().tolist()[:4] == pytest.approx([0.11, 0.11, 256, 256])
    scale.backward(torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0]))
    assert level.grad is not None
    passed = (level.grad != 0).tolist()
    assert passed == [True, False, True, False, True]


def test_tables_say_what_the_density_says() -> None:
    tables = gaussian.tables()
    assert tables.channels == gaussian.LEVELS
    for level in (0, 10, 31, 63):
        scale = float(gaussian.scale_of(torch.tensor(float(level))))
        reach = max(1, int(6 * scale))
        symbols = np.arange(-reach, reach + 1, dtype=np.int32)
        distance = torch.from_numpy(symbols).double()
        expected = gaussian.bits(distance, torch.full_like(distance, scale)).numpy()
        mass = 2.0**-expected
        assert mass.sum() == pytest.approx(1, abs=1e-6)
        found = tables.bits_under(symbols, np.full(len(symbols), level))
        assert 0 <= mass @ (found - expected) < 2e-4  # bits a symbol
        escaped = float(tables.frequencies[level][-1]) / 2**24
        assert 2**-24 <= escaped <= 2 * 2**-20 + 2**-22
