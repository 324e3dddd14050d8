"""The affine quantiser: its range, its error, its edges."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bottlenecks.affine import AffineQuantiser


@given(
    st.integers(1, 8),
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50),
)
@settings(max_examples=80, deadline=None)
def test_values_within_the_range_are_off_by_half_a_step_at_most(bits: int, numbers: list[float]) -> None:
    values = torch.tensor(numbers)
    quantiser = AffineQuantiser(bits)
    quantiser.fit(values)
    symbols = quantiser.symbols(values)
    assert 0 <= float(symbols.min()) <= float(symbols.max()) <= 2**bits - 1 == quantiser.top
    error = (quantiser.values(symbols).double() - values.double()).abs().max()
    rounding = 1e-6 * float(values.abs().max())  # of float32
    constant = values.min() == values.max()
    assert float(error) <= (0 if constant else float(quantiser.scale) / 2) + rounding
    assert torch.equal(quantiser.symbols(quantiser.values(symbols)), symbols)


def test_the_smallest_and_the_largest_value_are_the_first_and_the_last_symbol() -> None:
    values = torch.tensor([-3.0, 0.5, 4.0])
    for bits in range(1, 9):
        quantiser = AffineQuantiser(bits)
        quantiser.fit(values)
        assert quantiser.symbols(values)[[0, 2]].tolist() == [0, 2**bits - 1]
        torch.testing.assert_close(quantiser.values(torch.tensor([0, 2**bits - 1])), values[[0, 2]])


def test_values_beyond_the_range_saturate() -> None:
    quantiser = AffineQuantiser(4)
    quantiser.fit(torch.tensor([0.0, 15.0]))
    beyond = torch.tensor([-1e30, -1.0, 16.0, 1e30, float("inf")])
    assert quantiser.symbols(beyond).tolist() == [0, 0, 15, 15, 15]


def test_a_percentile_leaves_outliers_outside() -> None:
    values = torch.cat([torch.linspace(-1, 1, 1001), torch.tensor([500.0, -500.0])])
    quantiser = AffineQuantiser(8)
    quantiser.fit(values, percentile=99)
    ends = quantiser.values(torch.tensor([0, 255]))
    torch.testing.assert_close(ends, torch.tensor([-0.98, 0.98]), atol=0.01, rtol=0)


def test_what_cannot_be_quantised_is_refused() -> None:
    quantiser = AffineQuantiser(4)
    assert not quantiser.fitted
    with pytest.raises(ValueError, match="not finite"):
        quantiser.fit(torch.tensor([0.0, float("inf")]))
    quantiser.fit(torch.tensor([0.0, 1.0]))
    assert quantiser.fitted
    with pytest.raises(ValueError, match="not numbers"):
        quantiser.symbols(torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match="bits is 9, allowed are whole numbers of 1 to 8"):
        AffineQuantiser(9)
