import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, Prototypes, StatisticsError, nearest


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_the_nearest_is_the_nearest(rows, count, dimension, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(50, 1, (rows, dimension)).astype(np.float32)
    features = generator.normal(50, 1, (count, dimension)).astype(np.float32)
    prototypes = Prototypes(generator.integers(0, 9, rows), vectors)
    distances = ((features[:, None].astype(np.float64) - vectors[None]) ** 2).sum(2)
    best = prototypes.classes[distances.argmin(1)]
    found = prototypes.nearest(features)
    chosen = np.array([distances[i][prototypes.classes == c].min() for i, c in enumerate(found)])
    assert np.allclose(chosen, distances.min(1), atol=1e-3)
    assert (found == best).mean() > 0.9 or count < 10


def test_a_prototype_is_nearest_to_itself_in_any_chunk(monkeypatch):
    monkeypatch.setattr(nearest, "_CHUNK_VALUES", 10)
    statistics = ClassStatistics.of(np.eye(5), [5, 6, 7, 8, 9])
    prototypes = Prototypes.of(statistics)
    assert prototypes.nearest(np.eye(5)).tolist() == [5, 6, 7, 8, 9]
    assert prototypes.of_classes([6, 9]).nearest(np.eye(5)[1:]).tolist()[0::3] == [6, 9]


def test_several_prototypes_of_one_class():
    statistics = ClassStatistics.of([[-1.0], [1.0], [0.2]], [0, 0, 1], [0, 1, 0])
    prototypes = Prototypes.of(statistics)
    assert prototypes.nearest([[-0.9], [0.9], [0.1]]).tolist() == [0, 0, 1]


def test_what_cannot_be_classified():
    with pytest.raises(StatisticsError, match="there is no prototype yet"):
        Prototypes.of(ClassStatistics.empty(3))
    prototypes = Prototypes.of(ClassStatistics.of(np.eye(2), [0, 1]))
    with pytest.raises(StatisticsError, match=r"features are \[1, 3\], expected \[n, 2\]"):
        prototypes.nearest([[1.0, 2.0, 3.0]])
    with pytest.raises(StatisticsError, match="there is no prototype yet"):
        prototypes.of_classes([7])
    with pytest.raises(StatisticsError, match=r"classes \[2\], vectors \[3, 1\]"):
        Prototypes(np.array([0, 1]), np.zeros((3, 1), np.float32))
