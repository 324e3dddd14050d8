import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, StatisticsCodec, StatisticsError
from fedsim.prototypes import fleet_statistics


@st.composite
def fleets(draw):
    count, dimension, clients = draw(st.integers(0, 80)), draw(st.integers(1, 5)), draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = generator.normal(0, draw(st.sampled_from([1e-3, 1.0, 1e6])), (count, dimension))
    features = features.astype(draw(st.sampled_from([np.float32, np.float64])))
    labels = generator.choice([0, 3, 4, 2**31 - 1], count)
    slots = generator.integers(0, 3, count) if draw(st.booleans()) else None
    return features, labels, generator.integers(0, clients, count), clients, slots


def same(one, other, features=(0.0,)):
    """Counts are equal; sums, but for the rounding of sums of these features."""
    for name in ("classes", "slots", "counts"):
        mine, its = getattr(one, name), getattr(other, name)
        assert np.array_equal(mine, its), name
        assert mine.dtype == its.dtype == np.int64, name
    for power, name in enumerate(("sums", "squares"), 1):
        mine, its = getattr(one, name), getattr(other, name)
        assert (mine is None) == (its is None), name
        if mine is not None:
            assert mine.dtype == its.dtype == np.float64, name
            assert mine.shape == its.shape, name
            rounding = 2.0**-50 * (np.abs(features).astype(np.float64) ** power).sum()
            assert np.allclose(mine, its, rtol=0, atol=rounding), name


@given(fleets(), st.booleans())
def test_every_client_has_what_it_would_have_counted_itself(case, squares):
    features, labels, owners, clients, slots = case
    found = fleet_statistics(features, labels, owners, clients, slots, squares=squares)
    assert len(found) == clients
    for client, statistics in enumerate(found):
        own = owners == client
        part = None if slots is None else slots[own]
        expected = ClassStatistics.of(features[own], labels[own], part, squares=squares)
        same(statistics, expected, features[own])
        # What the constructor would have refused is not there.
        ClassStatistics(
            statistics.classes, statistics.slots, statistics.counts, statistics.sums, statistics.squares
        )


@given(fleets())
def test_merged_they_are_those_of_all_samples(case):
    features, labels, owners, clients, slots = case
    merged = ClassStatistics.merged(fleet_statistics(features, labels, owners, clients, slots))
    pooled = ClassStatistics.of(features, labels, slots)
    assert np.array_equal(merged.counts, pooled.counts)
    scale = 1 + np.abs(pooled.sums).max(initial=0)
    assert np.allclose(merged.sums, pooled.sums, rtol=1e-9, atol=1e-12 * scale * len(labels))


def test_they_can_be_written_merged_and_subtracted():
    first, nobody, second = fleet_statistics(np.eye(3), [5, 5, 6], [0, 2, 2], 3)
    assert len(nobody) == 0
    assert nobody.dimension == 3
    both = first + second
    assert both.counts.tolist() == [2, 1]
    same(both - second, first, np.eye(3))
    codec = StatisticsCodec(3, 64)
    same(codec.decode(codec.encode(second).payload), second)


def test_a_client_with_many_samples_of_a_class():
    generator = np.random.default_rng(0)
    labels, owners = generator.integers(0, 3, 900), (np.arange(900) > 800).astype(int)
    features = generator.normal(5, 1, (900, 4)).astype(np.float32)
    for client, found in enumerate(fleet_statistics(features, labels, owners, 2, squares=True)):
        own = owners == client
        expected = ClassStatistics.of(features[own], labels[own], squares=True)
        assert np.array_equal(found.counts, expected.counts)
        assert np.allclose(found.sums, expected.sums, rtol=1e-12, atol=0)
        assert np.allclose(found.squares, expected.squares, rtol=1e-12, atol=0)


def test_of_no_clients():
    assert fleet_statistics(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int), 0) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"owners": [0, 3]}, "client 3, allowed are 0 to 2"),
        ({"owners": [-1, 0]}, "client -1, allowed are 0 to 2"),
        ({"labels": [0, -4]}, "class -4, allowed are 0 to 2147483647"),
        ({"labels": [0, 2**31]}, "class 2147483648, allowed are"),
        ({"labels": [0.0, 1.0]}, "labels are float64, expected integers"),
        ({"slots": [0, -1]}, "slot -1, allowed are"),
        ({"slots": [0]}, r"features \[2, 1\], owners \[2\], labels \[2\], slots \[1\]; expected"),
        ({"owners": [0]}, r"features \[2, 1\], owners \[1\], labels \[2\]; expected"),
        ({"features": [0.0, 1.0]}, r"features \[2\], owners"),
        ({"features": [[0.0], [np.nan]]}, "sums of class 8 of client 2 are not finite"),
        ({"features": [[1e200], [0.0]], "squares": True}, "squares of class 7 of client 0 are not finite"),
        ({"clients": -1}, "-1 clients, allowed are 0 to"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_samples_that_cannot_be_counted(change, said):
    asked = {"features": [[0.0], [1.0]], "labels": [7, 8], "owners": [0, 2], "clients": 3} | change
    with pytest.raises(StatisticsError, match=said):
        fleet_statistics(**asked)
