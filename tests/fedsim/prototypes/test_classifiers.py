import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, StatisticsError
from fedsim import prototypes
from fedsim.errors import FederationError
from fedsim.prototypes import classifiers
from fedsim.prototypes.classifiers import cosine, euclidean, gaussian

NAMES = ("cosine", "euclidean", "gaussian")


@st.composite
def cases(draw, slots=True):
    """Samples of some of 6 classes about a place that may lie far from zero, and points to be classified."""
    count, dimension = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, place = draw(st.sampled_from([1e-3, 1.0, 1e3])), draw(st.sampled_from([0.0, 1.0, 100.0]))
    features = scale * generator.normal(place, 1, (count, dimension))
    labels = generator.integers(0, 6, count)
    of = generator.integers(0, 3, count) if slots and draw(st.booleans()) else None
    statistics = ClassStatistics.of(features, labels, of, squares=True)
    points = torch.from_numpy(scale * generator.normal(place, 2, (draw(st.integers(0, 8)), dimension)))
    return points.float(), statistics


def by_definition(name, points, statistics, classes):
    """Scores sample by sample and row by row, without any of what makes them fast or safe."""
    scores = np.full((len(points), classes), -np.inf)
    means, counts = statistics.means, statistics.counts
    sums = np.where(counts > 1, statistics.variances.mean(1) * counts, 0)
    common = sums.sum() / max(1, (counts - 1).sum())
    for number, point in enumerate(points.double().numpy()):
        for row, one in enumerate(statistics.classes):
            distance = ((point - means[row]) ** 2).sum()
            if name == "euclidean":
                score = -distance / 2
            elif name == "cosine":
                score = point @ means[row] / np.linalg.norm(point) / np.linalg.norm(means[row]) - 1
            else:
                width = (sums[row] + 10 * common) / (counts[row] - 1 + 10) if common > 0 else 1.0
                score = -distance / 2 / width - len(point) / 2 * np.log(width)
            scores[number, one] = max(scores[number, one], score)
    return scores


@settings(max_examples=150)
@given(cases(), st.sampled_from(NAMES))
def test_scores_are_those_of_the_definition(case, name):
    points, statistics = case
    found = prototypes.find(name)(points, statistics, 7).numpy()
    expected = by_definition(name, points, statistics, 7)
    assert found.dtype == np.float32
    unknown = np.setdiff1d(np.arange(7), statistics.classes)
    assert np.isneginf(found[:, unknown]).all()
    assert np.isfinite(found[:, statistics.known]).all()
    known = expected[:, statistics.known]
    tolerance = 1e-6 if name == "cosine" else 1e-12 + 1e-6 * np.abs(known).max(initial=0)
    assert np.allclose(found[:, statistics.known], known, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_one(monkeypatch, name):
    generator = np.random.default_rng(0)
    statistics = ClassStatistics.of(generator.normal(0, 1, (30, 4)), np.arange(30) % 5, squares=True)
    points = torch.from_numpy(generator.normal(0, 1, (23, 4)))
    whole = prototypes.find(name)(points, statistics, 5)
    monkeypatch.setattr(classifiers, "_CHUNK_VALUES", 10)
    assert torch.allclose(prototypes.find(name)(points, statistics, 5), whole)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0.0, 1e4])
def test_far_from_the_origin_a_prototype_is_nearest_to_itself(name, place):
    """Euclidean distances of about 1 and squares of 6e9: float32 would have no digits left for them."""
    features = np.eye(64) + place
    if name == "cosine":  # from as far as that, all directions are one
        features = np.eye(64) + place / 1e3
    statistics = ClassStatistics.of(np.repeat(features, 2, 0), np.repeat(np.arange(64), 2), squares=True)
    points = torch.from_numpy(features).float()
    scores = prototypes.find(name)(points, statistics, 64)
    assert torch.isfinite(scores).all()
    assert scores.argmax(1).tolist() == list(range(64))


def test_a_prototype_far_out_does_not_blur_the_others():
    """About the mean of the prototypes, nothing would be left of the distances of the other two."""
    statistics = ClassStatistics.of([[0.0], [1.0], [1e30]], [0, 1, 2])
    scores = euclidean(torch.tensor([[0.1], [0.9], [1e30]]), statistics, 3)
    assert scores.argmax(1).tolist() == [0, 1, 2]
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", NAMES)
def test_at_zero_distance_and_of_zero_vectors(name):
    statistics = ClassStatistics.of(np.zeros((3, 2)), [0, 1, 1], squares=True)
    scores = prototypes.find(name)(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), statistics, 2)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores[:, 0], scores[:, 1])
    if name != "cosine":
        assert scores[0].tolist() == [0.0, 0.0]
    else:
        assert scores.tolist() == [[-1.0, -1.0], [-1.0, -1.0]]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_that_is_not_finite_is_nobodys(name):
    statistics = ClassStatistics.of([[1.0, 0.0], [0.0, 1.0]], [0, 1], squares=True)
    points = torch.tensor([[torch.nan, 0.0], [0.9, 0.1], [torch.inf, 0.0]])
    scores = prototypes.find(name)(points, statistics, 2)
    assert torch.isneginf(scores[[0, 2]]).all()
    assert scores[1].argmax() == 0
    assert torch.isfinite(scores[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_of_no_statistics_nothing_can_be_chosen(name):
    statistics = ClassStatistics.empty(3, squares=True)
    scores = prototypes.find(name)(torch.zeros(2, 3), statistics, 4)
    assert scores.shape == (2, 4)
    assert torch.isneginf(scores).all()


def test_a_direction_is_told_whatever_its_length():
    statistics = ClassStatistics.of([[1e-150, 0.0], [0.0, 1e150], [-3.0, 0.0]], [0, 1, 2])
    points = torch.tensor([[1e30, 1e29], [1e-30, 1e-29], [-1.0, 0.0]])
    scores = cosine(points, statistics, 3)
    assert scores.argmax(1).tolist() == [0, 1, 2]
    assert scores[2].tolist() == pytest.approx([-2, -1, 0])


def test_a_wide_class_takes_what_lies_between():
    """The middle is as near to the narrow class, and much likelier of the wide one."""
    generator = np.random.default_rng(0)
    narrow, wide = generator.normal(0, 0.1, (500, 2)), generator.normal(4, 2, (500, 2))
    features, labels = np.concatenate([narrow, wide]), np.repeat([0, 1], 500)
    statistics = ClassStatistics.of(features, labels, squares=True)
    points = torch.tensor([[1.5, 1.5], [0.05, 0.0], [4.0, 4.0]])
    assert euclidean(points, statistics, 2).argmax(1).tolist() == [0, 0, 1]
    assert gaussian(points, statistics, 2).argmax(1).tolist() == [1, 0, 1]


def test_a_class_of_one_sample_has_the_common_width():
    generator = np.random.default_rng(1)
    features = np.concatenate([generator.normal(0, 0.5, (200, 3)), np.full((1, 3), 5.0)])
    statistics = ClassStatistics.of(features, [0] * 200 + [1], squares=True)
    scores = gaussian(torch.from_numpy(statistics.means), statistics, 2)
    assert float(scores[0, 0]) == pytest.approx(float(scores[1, 1]), rel=1e-3)
    ones = ClassStatistics.of([[0.0], [3.0]], [0, 1], squares=True)
    points = torch.tensor([[1.0], [2.0]])
    assert torch.equal(gaussian(points, ones, 2), euclidean(points, ones, 2))


def test_of_several_prototypes_the_best_counts():
    statistics = ClassStatistics.of([[-5.0], [5.0], [0.0]], [0, 0, 1], [0, 1, 0])
    scores = euclidean(torch.tensor([[-4.0], [4.5], [1.0]]), statistics, 2)
    assert scores.argmax(1).tolist() == [0, 0, 1]
    assert scores[0].tolist() == [-0.5, -8.0]


@settings(max_examples=60)
@given(cases(), st.sampled_from(NAMES), st.data())
def test_what_is_unlearned_leaves_no_trace_in_predictions(case, name, data):
    points, before = case
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(1, 30))
    scale = 1 + np.abs(before.means).max()
    features, labels = generator.normal(0, scale, (count, before.dimension)), generator.integers(0, 7, count)
    guest = ClassStatistics.of(features, labels, generator.integers(0, 4, count), squares=True)
    after = (before + guest) - guest
    assert np.array_equal(after.counts, before.counts)
    classify = prototypes.find(name)
    scores, restored = classify(points, before, 7), classify(points, after, 7)
    known = before.known
    assert torch.equal(torch.isneginf(scores), torch.isneginf(restored))
    # Widths are differences of large numbers: what is left of the guest's rounding.
    tolerance = 1e-3 if name == "gaussian" else 1e-5
    part = scores[:, known]
    assert torch.allclose(restored[:, known], part, rtol=tolerance, atol=tolerance * float(scale) ** 2)


def test_names():
    assert tuple(prototypes.available()) == NAMES
    assert prototypes.available()["euclidean"] == "Nearest mean by Euclidean distance: minus half its square."
    assert prototypes.find("cosine") is cosine
    with pytest.raises(
        FederationError, match="unknown prototype classifier 'knn'; known are cosine, euclidean, gaussian"
    ):
        prototypes.find("knn")


def test_a_name_is_given_once(monkeypatch):
    monkeypatch.setattr(classifiers, "_registered", dict(classifiers._registered))

    def mine(features, statistics, classes):
        """Mine."""

    assert classifiers.register("mine")(mine) is mine
    assert classifiers.register("mine")(mine) is mine
    assert prototypes.available()["mine"] == "Mine."
    with pytest.raises(ValueError, match="there is a prototype classifier 'mine' already"):
        classifiers.register("mine")(cosine)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit(name):
    statistics = ClassStatistics.of(np.eye(3), [0, 1, 2], squares=True)
    with pytest.raises(StatisticsError, match=r"features are \[5, 2\], expected \[n, 3\]"):
        prototypes.find(name)(torch.zeros(5, 2), statistics, 3)
    with pytest.raises(StatisticsError, match="statistics of class 2; there are classes 0 to 1"):
        prototypes.find(name)(torch.zeros(5, 3), statistics, 2)


def test_widths_need_squares():
    with pytest.raises(StatisticsError, match="squares were not counted"):
        gaussian(torch.zeros(1, 2), ClassStatistics.of(np.eye(2), [0, 1]), 2)
