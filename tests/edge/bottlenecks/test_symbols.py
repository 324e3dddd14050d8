import math

import torch

from edge.bottlenecks.symbols import nearest_symbols


def test_the_nearest_integers_halfway_to_even():
    values = torch.tensor([[-1.5, -0.5, 0.4], [0.5, 1.5, 2.6]])
    expected = torch.tensor([[-2.0, 0.0, 0.0], [0.0, 2.0, 3.0]], dtype=torch.float64)
    assert torch.equal(nearest_symbols(values), expected)


def test_values_beyond_int32_saturate_and_what_is_no_number_stays_none():
    symbols = nearest_symbols(torch.tensor([1e12, -1e12, math.inf, math.nan]))
    assert symbols[:3].tolist() == [2**31 - 1, -(2**31), 2**31 - 1]
    assert symbols[3].isnan()
