import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from sklearn.isotonic import IsotonicRegression

from fedsim.measure.monotone import MonotoneCubic, isotonic, mean_over

numbers = st.integers(-6400, 6400).map(lambda n: n / 64)
weighted = st.lists(st.tuples(numbers, st.floats(0.1, 10)), min_size=1, max_size=12)


@st.composite
def knots(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    widths = draw(st.lists(st.floats(0.01, 10), min_size=1, max_size=8))
    x = np.cumsum([draw(numbers), *widths]).tolist()
    return x, draw(st.lists(numbers, min_size=len(x), max_size=len(x)))


def test_a_fall_becomes_a_plateau() -> None:
    assert isotonic([1, 5, 3, 7], [1, 1, 1, 1]) == [1, 4, 4, 7]
    assert isotonic([1, 5, 3, 7], [1, 3, 1, 1]) == [1, 4.5, 4.5, 7]
    assert isotonic([9, 6, 3], [1, 1, 1]) == [6, 6, 6]  # the pooled value falls below an earlier one
    assert isotonic([1, 1, 2], [1, 1, 1]) == [1, 1, 2]


@settings(max_examples=30, deadline=None)
@given(weighted)
def test_isotonic_is_the_least_squares_fit(points: list[tuple[float, float]]) -> None:
    values, weights = (list(column) for column in zip(*points, strict=True))
    fitted = isotonic(values, weights)
    assert fitted == sorted(fitted)
    # scikit-learn fits in the precision of its solver.
    expected = IsotonicRegression().fit_transform(range(len(values)), values, sample_weight=weights)
    np.testing.assert_allclose(fitted, expected, atol=1e-9)
    assert isotonic(fitted, weights) == pytest.approx(fitted, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(knots(), st.floats(0, 1))
def test_the_cubic_is_pchip(points: tuple[list[float], list[float]], where: float) -> None:
    x, y = points
    at = min(x[0] + where * (x[-1] - x[0]), x[-1])
    assert MonotoneCubic(x, y)(at) == pytest.approx(float(PchipInterpolator(x, y)(at)), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(knots())
def test_the_cubic_is_monotone_and_passes_through_its_points(points: tuple[list[float], list[float]]) -> None:
    x, y = points[0], sorted(points[1])
    cubic = MonotoneCubic(x, y)
    assert [cubic(at) for at in x] == pytest.approx(y, abs=1e-12)
    values = [cubic(float(at)) for at in np.linspace(x[0], x[-1], 60).clip(x[0], x[-1])]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))


def test_nothing_is_extrapolated() -> None:
    cubic = MonotoneCubic([0, 1, 3], [0, 1, 2])
    for outside in (-1e-9, 3.0000001, math.nan):
        with pytest.raises(ValueError, match=r"outside 0\.\.3"):
            cubic(outside)


@pytest.mark.parametrize("x", [[1.0], [1.0, 1.0], [2.0, 1.0]])
def test_points_that_are_no_function_are_refused(x: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two points of strictly increasing x"):
        MonotoneCubic(x, [0.0] * len(x))


def test_the_mean_of_a_cubic_is_exact() -> None:
    # The integral of 4x^3 - 3x^2 + 2 over -1..3 is 80 - 28 + 8.
    mean = mean_over(lambda x: 4 * x**3 - 3 * x**2 + 2, [0.5, 99], -1, 3)
    assert mean == pytest.approx(60 / 4, abs=1e-12)
    # |x| is a cubic on either side of its break.
    assert mean_over(abs, [0], -1, 3) == pytest.approx(5 / 4, abs=1e-12)
