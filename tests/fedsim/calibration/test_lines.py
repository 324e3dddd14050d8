"""The line through times."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.calibration.lines import fit
from fedsim.calibration.timing import Timing

SIZES = (1, 2, 4, 8, 16, 32)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-6, 1e-2), st.floats(1e-7, 1e-2))
def test_a_line_is_found_again(fixed: float, each: float) -> None:
    line = fit({n: Timing(np.array([1.0, 1.1, 0.9]) * (fixed + each * n)) for n in SIZES})
    assert (line.fixed, line.each) == pytest.approx((fixed, each), rel=1e-6)
    assert line.residual < 1e-9
    assert line.fixed_by_round == pytest.approx(fixed * np.array([1.0, 1.1, 0.9]), rel=1e-6)
    assert line.each_by_round == pytest.approx(each * np.array([1.0, 1.1, 0.9]), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=6))
def test_neither_coefficient_is_below_zero_and_no_other_pair_is_closer(times: list[float]) -> None:
    sizes = SIZES[: len(times)]
    line = fit({n: Timing(np.array([time])) for n, time in zip(sizes, times, strict=True)})
    assert min(line.fixed, line.each) >= 0

    def distance(fixed: float, each: float) -> float:
        return sum(((fixed + each * n) / t - 1) ** 2 for n, t in zip(sizes, times, strict=True))

    best = distance(line.fixed, line.each)
    step = 1e-3 * max(times)
    for fixed, each in [(step, 0), (-step, 0), (0, step), (0, -step), (step, -step), (-step, step)]:
        near = line.fixed + fixed, line.each + each
        if min(near) >= 0:
            assert distance(*near) >= best * (1 - 1e-9)


def test_the_residual_is_the_greatest_part_by_which_a_time_is_missed() -> None:
    line = fit({n: Timing(np.array([t])) for n, t in ((1, 1.0), (2, 2.0), (3, 6.0))})
    told = [abs(line.fixed + line.each * n - t) / t for n, t in ((1, 1.0), (2, 2.0), (3, 6.0))]
    assert line.residual == pytest.approx(max(told))
    assert line.fixed == 0  # it would be below


def test_one_size_makes_no_line() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        fit({1: Timing(np.array([1.0]))})
