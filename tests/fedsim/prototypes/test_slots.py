from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, Prototypes, StatisticsError
from fedsim import data
from fedsim.prototypes import assign, cluster, slots, spread
from fedsim.prototypes.classifiers import euclidean


def pixels(images):
    return images.reshape(len(images), -1) / 255.0


def test_any_partition_merges_to_the_pooled_statistics():
    digits = data.load("digits")
    features, labels = pixels(digits.x_train), digits.y_train
    centres = cluster(features[:300], labels[:300], 3, seed=0)
    pooled = ClassStatistics.of(features, labels, assign(features, labels, centres), squares=True)
    assert len(pooled) == 30

    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 60), st.integers(0, 2**32 - 1))
    def holds(clients, seed):
        owners = np.random.default_rng(seed).integers(0, clients, len(labels))
        parts = []
        for client in np.random.default_rng(seed).permutation(clients):
            own = owners == client
            found = assign(features[own], labels[own], centres)
            parts.append(ClassStatistics.of(features[own], labels[own], found, squares=True))
        merged = ClassStatistics.merged(parts)
        for name in ("classes", "slots", "counts"):
            assert np.array_equal(getattr(merged, name), getattr(pooled, name))
        assert np.allclose(merged.means, pooled.means, rtol=1e-9, atol=1e-12)
        assert np.allclose(merged.squares, pooled.squares, rtol=1e-9, atol=1e-9)

    holds()


def test_several_prototypes_tell_digits_better_than_one():
    digits = data.load("digits")
    features, labels = pixels(digits.x_train), digits.y_train
    points = torch.from_numpy(pixels(digits.x_test)).float()
    accuracy = {}
    for number in (1, 3):
        centres = cluster(features, labels, number, seed=0)
        statistics = ClassStatistics.of(features, labels, assign(features, labels, centres))
        scores = euclidean(points, statistics, 10)
        accuracy[number] = float((scores.argmax(1).numpy() == digits.y_test).mean())
    assert accuracy[1] < 0.93
    assert accuracy[3] > accuracy[1] + 0.03


def test_merged_means_are_a_step_of_k_means_on_what_nobody_has_seen():
    generator = np.random.default_rng(0)
    places = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
    features = (places[:, None] + generator.normal(0, 0.5, (4, 60, 2))).reshape(-1, 2)
    labels = np.zeros(240, np.int64)
    shares = np.array_split(generator.permutation(240), 7)
    first = ClassStatistics.merged(
        ClassStatistics.of(features[own], labels[own], squares=True) for own in shares
    )
    centres = spread(first, 4, seed=1)
    apart = []
    for _ in range(8):
        merged = ClassStatistics.merged(
            ClassStatistics.of(features[own], labels[own], assign(features[own], labels[own], centres))
            for own in shares
        )
        centres = Prototypes.of(merged)
        near = ((features[:, None] - centres.vectors) ** 2).sum(2).min(1)
        apart.append(near.mean())
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(apart))
    assert apart[-1] < 0.6  # 2 * 0.5 ** 2 where every place has a centre
    assert len(centres.classes) == 4


def test_centres_are_found_where_the_samples_are():
    places = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    features = np.concatenate([places + step for step in (-0.1, 0.0, 0.1)] + [[[9.0, 9.0]]])
    labels = np.array([4] * 9 + [7])
    centres = cluster(features, labels, 3, seed=3)
    assert centres.classes.tolist() == [4, 4, 4, 7]
    assert np.allclose(centres.vectors[:3], places[[0, 2, 1]], atol=1e-6)  # in their order, not in k-means'
    assert centres.vectors[3].tolist() == [9.0, 9.0]
    again = cluster(features, labels, 3, seed=3)
    assert np.array_equal(again.vectors, centres.vectors)


@pytest.mark.filterwarnings("error")
def test_a_class_has_no_more_centres_than_different_samples():
    centres = cluster(np.ones((5, 2)), [1, 1, 1, 2, 2], 3, seed=0)
    assert centres.classes.tolist() == [1, 2]


def test_centres_about_a_mean_lie_on_either_side_of_it():
    statistics = ClassStatistics.of([[0.0, 1.0], [2.0, 1.0], [7.0, 7.0]], [0, 0, 3], squares=True)
    centres = spread(statistics, 5, seed=0)
    assert centres.classes.tolist() == [0] * 5 + [3] * 5
    own = centres.vectors[:5]
    assert np.allclose(own.mean(0), [1.0, 1.0])
    assert set(own[:, 0].tolist()) == {0.0, 1.0, 2.0}
    assert set(own[:, 1].tolist()) == {1.0}  # a feature that does not vary
    assert (centres.vectors[5:] == 7.0).all()
    assert np.array_equal(spread(statistics, 5, seed=0).vectors, centres.vectors)
    assert not np.array_equal(spread(statistics, 4, seed=2).vectors, spread(statistics, 4, seed=9).vectors)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_sample_belongs_to_the_nearest_centre_of_its_class(seed, count):
    generator = np.random.default_rng(seed)
    centres = Prototypes(generator.integers(0, 4, 9), generator.normal(0, 1, (9, 3)).astype(np.float32))
    features, labels = generator.normal(0, 1, (count, 3)), generator.integers(0, 5, count)
    before = slots._CHUNK_VALUES
    slots._CHUNK_VALUES = 20
    try:
        found = assign(features, labels, centres)
    finally:
        slots._CHUNK_VALUES = before
    for sample, label, slot in zip(features, labels, found, strict=True):
        own = centres.vectors[centres.classes == label]
        if len(own):
            assert slot == ((sample - own) ** 2).sum(1).argmin()
        else:
            assert slot == 0


def test_what_does_not_fit():
    centres = cluster([[0.0, 1.0]], [0], 1, seed=0)
    with pytest.raises(StatisticsError, match=r"features \[2, 3\], labels \[2\]; expected \[n, 2\], \[n\]"):
        assign(np.zeros((2, 3)), [0, 0], centres)
    with pytest.raises(StatisticsError, match="slots is 0, allowed is 1 or more"):
        cluster(np.zeros((2, 3)), [0, 0], 0, seed=0)
    with pytest.raises(StatisticsError, match="iterations is 0"):
        cluster(np.zeros((2, 3)), [0, 0], 1, seed=0, iterations=0)
    with pytest.raises(StatisticsError, match="not finite"):
        cluster([[np.nan]], [0], 1, seed=0)
    with pytest.raises(StatisticsError, match="there is no prototype yet"):
        cluster(np.zeros((0, 3)), np.zeros(0, int), 2, seed=0)
    with pytest.raises(StatisticsError, match="slots is -1"):
        spread(ClassStatistics.empty(2, squares=True), -1, seed=0)
    with pytest.raises(StatisticsError, match="squares were not counted"):
        spread(ClassStatistics.of([[1.0]], [0]), 2, seed=0)
    with pytest.raises(StatisticsError, match="several rows a class"):
        spread(ClassStatistics.of([[1.0], [2.0]], [0, 0], [0, 1], squares=True), 2, seed=0)
    with pytest.raises(StatisticsError, match="there is no prototype yet"):
        spread(ClassStatistics.empty(2, squares=True), 2, seed=0)
