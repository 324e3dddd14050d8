import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.measure.statistics import percentile, wilson_interval


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
