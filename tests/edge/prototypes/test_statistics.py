import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, StatisticsError


@st.composite
def samples(draw, least=1):
    count = draw(st.integers(least, 60))
    dimension = draw(st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    features = generator.normal(generator.normal(size=dimension), scale, (count, dimension))
    return features, generator.integers(0, 7, count), generator.integers(0, 3, count)


def pooled(features, labels, slots):
    rows = sorted(set(zip(labels.tolist(), slots.tolist(), strict=True)))
    members = [(labels == label) & (slots == slot) for label, slot in rows]
    return rows, [features[one] for one in members]


def same(one, other, tolerance=1e-9):
    for name in ("classes", "slots", "counts"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("sums", "squares"):
        mine, its = getattr(one, name), getattr(other, name)
        assert (mine is None) == (its is None)
        if mine is not None:
            assert np.allclose(mine, its, rtol=tolerance, atol=tolerance * (1 + np.abs(its).max(initial=0)))


@given(samples())
def test_counted_is_what_numpy_counts(case):
    features, labels, slots = case
    found = ClassStatistics.of(features, labels, slots, squares=True)
    rows, members = pooled(*case)
    assert list(zip(found.classes.tolist(), found.slots.tolist(), strict=True)) == rows
    assert found.counts.tolist() == [len(one) for one in members]
    assert np.allclose(found.means, [one.mean(0) for one in members], rtol=1e-9, atol=1e-9)
    variances = np.array([one.var(0) for one in members])
    assert np.allclose(found.variances, variances, rtol=1e-6, atol=1e-9 * (1 + (features**2).max()))


@settings(max_examples=60)
@given(samples(), st.data())
def test_any_partition_merged_in_any_order_is_the_pooled_mean(case, data):
    features, labels, slots = case
    parts = data.draw(st.integers(1, 52))
    owner = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).integers(0, parts, len(labels))
    shares = [
        ClassStatistics.of(features[owner == part], labels[owner == part], slots[owner == part], squares=True)
        for part in data.draw(st.permutations(range(parts)))
    ]
    whole = ClassStatistics.of(features, labels, slots, squares=True)
    one_by_one = ClassStatistics.empty(features.shape[1], squares=True)
    for share in shares:
        one_by_one = one_by_one + share
    same(one_by_one, whole)
    same(ClassStatistics.merged(shares), whole)
    assert np.allclose(one_by_one.means, whole.means, rtol=1e-9, atol=1e-9)


def test_fifty_merges_of_a_drifting_mean_do_not_drift():
    """The public code of Federated Reconnaissance is 63 % off at the second of these merges."""
    generator = np.random.default_rng(0)
    server, seen = ClassStatistics.empty(8), []
    for drift in range(50):
        for _ in range(2):
            features = generator.normal(drift, 1, (30, 8))
            seen.append(features)
            server = server + ClassStatistics.of(features, np.zeros(30, int))
        assert np.allclose(server.means[0], np.concatenate(seen).mean(0), rtol=1e-9, atol=0)


def test_counts_weigh():
    one = ClassStatistics.of(np.zeros((1, 2)), [4])
    many = ClassStatistics.of(np.full((14, 2), 15.0), [4] * 14)
    assert (one + many).means.tolist() == [[14.0, 14.0]]


@given(samples(least=2), st.data())
def test_what_is_subtracted_is_as_if_it_had_never_come(case, data):
    features, labels, slots = case
    gone = data.draw(st.integers(0, len(labels)))
    whole = ClassStatistics.of(features, labels, slots, squares=True)
    left = whole - ClassStatistics.of(features[:gone], labels[:gone], slots[:gone], squares=True)
    expected = ClassStatistics.of(features[gone:], labels[gone:], slots[gone:], squares=True)
    assert np.array_equal(left.counts, expected.counts)
    assert np.array_equal(left.classes, expected.classes)
    scale = 1e-9 * (1 + np.abs(features).max()) ** 2 * len(labels)
    assert np.allclose(left.sums, expected.sums, atol=scale)
    assert np.allclose(left.squares, expected.squares, atol=scale)


def test_absent_classes_have_no_row():
    found = ClassStatistics.of(np.ones((3, 2)), [9, 2, 9])
    assert found.known.tolist() == [2, 9]
    assert found.counts.tolist() == [1, 2]
    assert len(found.of_classes([2, 5])) == 1
    assert len(ClassStatistics.of(np.zeros((0, 4)), np.zeros(0, int))) == 0


@pytest.mark.parametrize(
    ("features", "labels", "slots", "said"),
    [
        ([[np.nan]], [3], None, "sums of class 3 are not finite"),
        ([[1e200], [np.inf]], [3, 4], None, "sums of class 4 are not finite"),
        ([[1.0]], [-1], None, "class -1, allowed are 0 to 2147483647"),
        ([[1.0]], [2**31], None, "class 2147483648, allowed are"),
        ([[1.0]], [0], [-2], "slot -2, allowed are"),
        ([[1.0]], [0.5], None, "labels are float64, expected integers"),
        ([[1.0]], [0, 1], None, r"features \[1, 1\], labels \[2\], slots \[2\]; expected \[n, d\], \[n\]"),
        ([1.0], [0], None, r"features \[1\]"),
    ],
)
def test_samples_that_cannot_be_counted(features, labels, slots, said):
    with pytest.raises(StatisticsError, match=said):
        ClassStatistics.of(np.array(features), np.array(labels), slots)


def rows(classes=(1, 2), slots=(0, 0), counts=(1, 1), sums=((0.0,), (1.0,)), squares=None):
    return ClassStatistics(
        np.array(classes),
        np.array(slots),
        np.array(counts),
        np.array(sums),
        None if squares is None else np.array(squares),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"counts": (1, 0)}, "class 2 has 0 samples, a row has 1 or more"),
        ({"counts": (1, -3)}, "class 2 has -3 samples"),
        ({"counts": (1.0, 2.0)}, r"counts are float64\[2\], expected int64\[2\]"),
        ({"classes": (2, 1)}, "class 1 stands out of order, or twice"),
        ({"classes": (2, 2)}, "class 2 stands out of order, or twice"),
        ({"sums": ((0.0,),)}, r"sums are float64\[1, 1\], expected float64\[2, d\]"),
        ({"sums": ((0,), (1,))}, r"sums are int64\[2, 1\]"),
        ({"squares": ((0.0, 1.0), (1.0, 1.0))}, r"squares are \[2, 2\], sums \[2, 1\]"),
        ({"squares": ((0.0,), (-1.0,))}, "a sum of squares is negative"),
    ],
)
def test_arrays_that_are_no_statistics(change, said):
    with pytest.raises(StatisticsError, match=said):
        rows(**change)


def test_statistics_that_do_not_fit_each_other():
    one = rows()
    with pytest.raises(StatisticsError, match="cannot be merged: 1, 2"):
        ClassStatistics.merged([one, ClassStatistics.empty(2)])
    with pytest.raises(StatisticsError, match="cannot be merged: 1, 1 with squares"):
        one + rows(squares=((0.0,), (1.0,)))
    with pytest.raises(StatisticsError, match="nothing to merge"):
        ClassStatistics.merged([])
    with pytest.raises(StatisticsError, match="different dimensions cannot be subtracted"):
        one - ClassStatistics.empty(2)
    with pytest.raises(StatisticsError, match="class 5 is not there to be subtracted from"):
        one - rows(classes=(1, 5))
    with pytest.raises(StatisticsError, match="class 2 has 1 samples, and 4 are to be subtracted"):
        one - rows(counts=(1, 4))
    with pytest.raises(StatisticsError, match="squares were not counted"):
        _ = one.variances
