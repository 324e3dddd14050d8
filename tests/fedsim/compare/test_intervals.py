import numpy as np
import pytest

from fedsim.compare.intervals import FEWEST, block_length, mean_and_percentile_intervals


def remembering(rng: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """An autoregressive series of mean 5 and variance 1."""
    kicks = rng.normal(scale=np.sqrt(1 - memory**2), size=count)
    values = np.empty(count)
    last = rng.normal()
    for i, kick in enumerate(kicks):
        last = values[i] = memory * last + kick
    return values + 5


def test_independent_readings_have_the_intervals_of_the_textbook() -> None:
    rng = np.random.default_rng(3)
    lengths = np.zeros(2)
    for _ in range(30):
        intervals = mean_and_percentile_intervals(rng.normal(10.0, 2.0, 1000), 95)
        assert intervals is not None
        lengths += np.diff(np.array(intervals), axis=1)[:, 0] / 30
    assert lengths[0] == pytest.approx(2 * 1.96 * 2 / np.sqrt(1000), rel=0.05)
    # Of a quantile, the error is that of the share, sqrt(p (1 - p) / n), over the density there.
    density = 0.1031 / 2
    assert lengths[1] == pytest.approx(2 * 1.96 * np.sqrt(0.95 * 0.05 / 1000) / density, rel=0.12)


def test_what_follows_each_other_widens_the_interval_as_its_spectrum_says() -> None:
    values = remembering(np.random.default_rng(4), 20_000, 0.8)
    intervals = mean_and_percentile_intervals(values, 95)
    assert intervals is not None
    low, high = intervals[0]
    half = 1.96 * values.std() / np.sqrt(len(values)) * 3  # sqrt((1 + 0.8) / (1 - 0.8))
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)


@pytest.mark.parametrize(("memory", "least"), [(0.0, 0.88), (0.7, 0.8)])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(memory: float, least: float) -> None:
    rng = np.random.default_rng(5)
    hits = np.zeros(2)
    for _ in range(50):
        intervals = mean_and_percentile_intervals(remembering(rng, 500, memory), 95)
        assert intervals is not None
        hits += [low <= truth <= high for (low, high), truth in zip(intervals, (5, 6.645), strict=True)]
    assert (hits / 50 >= least).all()


def test_blocks_are_as_long_as_the_memory() -> None:
    rng = np.random.default_rng(6)
    lengths = [block_length(remembering(rng, 4000, memory)) for memory in (0.0, 0.5, 0.9)]
    assert lengths[0] <= 3 < lengths[1] < lengths[2] <= 3 * np.sqrt(4000)
    # (2 G^2 / D)^(1/3) n^(1/3), of this process G = 2 m / (1 - m)^2 and D = 4/3 ((1 + m) / (1 - m))^2.
    g, d = 2 * 0.5 / 0.25, 4 / 3 * 9
    assert lengths[1] == pytest.approx((2 * g**2 / d * 4000) ** (1 / 3), rel=0.4)


@pytest.mark.parametrize("series", ["constant", "two-valued", "alternating", "rising"])
@pytest.mark.parametrize("count", [FEWEST, FEWEST + 1, 97])
def test_odd_series_have_intervals_within_their_values(series: str, count: int) -> None:
    values = {
        "constant": np.full(count, 0.25),
        "two-valued": np.arange(count) % 2.0,
        "alternating": (-1.0) ** np.arange(count) * np.arange(count),
        "rising": np.arange(count, dtype=np.float64),
    }[series]
    intervals = mean_and_percentile_intervals(values, 95)
    assert intervals is not None
    (low, high), (bottom, top) = intervals
    assert low <= values.mean() <= high
    assert values.min() <= bottom <= np.percentile(values, 95) <= top <= values.max()


def test_few_readings_have_none_and_the_same_have_the_same() -> None:
    values = np.random.default_rng(7).exponential(size=50)
    assert mean_and_percentile_intervals(values[: FEWEST - 1], 95) is None
    assert mean_and_percentile_intervals(values, 95) == mean_and_percentile_intervals(values.copy(), 95)
