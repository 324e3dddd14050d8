import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedsim.measure.statistics import percentile, sign_test, student_t95, t_interval, wilson_interval


def test_percentiles_are_linear_between_values() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([10, 20, 30, 40, 50], 95) == pytest.approx(48)  # position 0.95 * 4 = 3.8
    assert percentile([7], 95) == 7


def test_wilson_by_hand() -> None:
    # z^2 = 3.841459; centre (0.8 + z^2/20) / (1 + z^2/10), half width z sqrt(0.016 + z^2/400) / (1 + z^2/10)
    low, high = wilson_interval(8, 10)
    assert low == pytest.approx(0.4901625, abs=1e-6)
    assert high == pytest.approx(0.9433178, abs=1e-6)


def test_wilson_at_the_ends_is_not_empty() -> None:
    # For k = 0 the upper bound is z^2 / (n + z^2).
    assert wilson_interval(0, 20) == (0.0, pytest.approx(3.841458820694124 / 23.841458820694124))
    assert wilson_interval(20, 20) == (pytest.approx(20 / 23.841458820694124), 1.0)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_mirrors(counts: tuple[int, int]) -> None:
    correct, total = counts
    low, high = wilson_interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    assert wilson_interval(total - correct, total) == (pytest.approx(1 - high), pytest.approx(1 - low))


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(correct: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{correct} successes of {total} trials"):
        wilson_interval(correct, total)


def test_student_by_the_book() -> None:
    # Student's table, as in any textbook.
    book = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042, 120: 1.980}
    assert {n: round(student_t95(n), 3) for n in book} == book


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400))
def test_student_is_that_of_scipy(freedom: int) -> None:
    assert student_t95(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), rel=1e-9)


def test_no_degree_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match="0 degrees of freedom"):
        student_t95(0)


def test_interval_of_a_mean_by_hand() -> None:
    # Mean 2, standard deviation 1: half width 4.302653 / sqrt(3).
    assert t_interval([1, 2, 3]) == pytest.approx((2 - 2.4841377, 2 + 2.4841377))
    assert t_interval([5, 5, 5, 5]) == (5, 5)


def test_one_value_has_no_interval() -> None:
    assert t_interval([1.0]) is None
    assert t_interval([]) is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.floats(-1e3, 1e3))
def test_interval_holds_the_mean_and_moves_with_it(values: list[float], shift: float) -> None:
    found, moved = t_interval(values), t_interval([value + shift for value in values])
    assert found is not None
    assert found[0] <= math.fsum(values) / len(values) <= found[1]
    assert moved == pytest.approx((found[0] + shift, found[1] + shift), abs=1e-6)


def test_sign_test_by_hand() -> None:
    assert sign_test([1, 2, 3], "greater") == 1 / 8
    assert sign_test([1, 2, 3]) == 2 / 8
    assert sign_test([1, 2, 3], "less") == 1
    # At most one of four heads: (1 + 4) / 16.
    assert sign_test([1, -1, 2, 3], "greater") == 5 / 16
    assert sign_test([0.5, 0, 0]) == 1  # zeros say nothing
    assert sign_test([]) == sign_test([0.0]) == 1


def test_a_difference_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a number"):
        sign_test([1.0, math.nan])


@given(
    st.lists(st.sampled_from([-1.5, 0.0, 2.0]), max_size=12),
    st.sampled_from(["two-sided", "greater", "less"]),
)
def test_sign_test_is_the_binomial_test(differences: list[float], alternative: str) -> None:
    signed = [d for d in differences if d]
    if signed:
        expected = stats.binomtest(sum(d > 0 for d in signed), len(signed), alternative=alternative).pvalue
        assert sign_test(differences, alternative) == pytest.approx(float(expected))
        mirror = {"greater": "less", "less": "greater"}.get(alternative, alternative)
        assert sign_test([-d for d in differences], mirror) == sign_test(differences, alternative)
