import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.data.missions import missions, n_way_k_shot
from fedsim.errors import DataError

LABELS = np.repeat(np.arange(12), 20)[np.random.default_rng(0).permutation(240)]


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 20), st.booleans(), st.integers(0, 2**32 - 1))
def test_no_sample_is_met_twice_and_every_class_is_met(clients, classes, shots, disjoint, seed):
    field = list(range(4, 12))
    found = missions(
        LABELS, field, clients=clients, classes=classes, shots=shots, seed=seed, disjoint=disjoint
    )
    flat = [mission for each in found for mission in each]
    used = np.concatenate([mission.indices for mission in flat])
    assert len(np.unique(used)) == len(used)
    met = np.concatenate([mission.classes for mission in flat])
    assert set(met.tolist()) == set(field)
    assert len(met) == (8 if disjoint else 8 * (20 // shots))
    for number, each in enumerate(found):
        assert [mission.client for mission in each] == list(range(len(each)))
        for mission in each:
            assert mission.number == number
            assert np.unique(LABELS[mission.indices]).tolist() == mission.classes.tolist()
            assert (np.bincount(LABELS[mission.indices])[mission.classes] == shots).all()
            assert len(mission.classes) <= classes


def test_the_same_seed_gives_the_same_missions():
    one, same, other = (
        missions(LABELS, range(12), clients=3, classes=2, shots=5, seed=seed) for seed in (1, 1, 2)
    )

    def drawn(found):
        return [mission.indices.tolist() for each in found for mission in each]

    assert drawn(one) == drawn(same) != drawn(other)


def test_missions_that_cannot_be():
    with pytest.raises(DataError, match="class 3 has 20 samples, 21 shots are asked for"):
        missions(LABELS, [3], clients=1, classes=1, shots=21, seed=0)
    with pytest.raises(DataError, match="class 40 has 0 samples"):
        missions(LABELS, [40], clients=1, classes=1, shots=1, seed=0)
    with pytest.raises(DataError, match="clients is 0, allowed is 1 or more"):
        missions(LABELS, [3], clients=0, classes=1, shots=1, seed=0)


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 3), st.integers(1, 20))
def test_n_ways_and_k_shots(clients, ways, spread, shots):
    shares = n_way_k_shot(LABELS, clients=clients, ways=ways, spread=spread, shots=shots, seed=5)
    assert len(shares) == clients
    for own in shares:
        counts = np.bincount(LABELS[own], minlength=12)
        assert set(counts.tolist()) <= {0, shots}
        assert max(2, ways - spread) <= (counts > 0).sum() <= ways + spread
        assert len(np.unique(own)) == len(own)
    if clients * 12 * shots <= 240:
        together = np.concatenate(shares)
        assert len(np.unique(together)) == len(together)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shots": 21}, "class 0 has 20 samples, 21 shots"),
        ({"ways": 20, "spread": 2}, r"4 clients, 20±2 ways, 5 shots of 12 classes cannot be"),
        ({"clients": 0}, "0 clients"),
    ],
)
def test_n_ways_and_k_shots_that_cannot_be(change, said):
    with pytest.raises(DataError, match=said):
        n_way_k_shot(LABELS, **{"clients": 4, "ways": 3, "spread": 1, "shots": 5, "seed": 0, **change})
