import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import FederationError
from fedsim.federated.cohorts import Cohorts


@given(st.integers(1, 40), st.data(), st.integers(0, 2**32 - 1), st.floats(0, 0.9))
def test_a_cohort_is_of_its_size_and_the_same_again(clients, data, seed, dropout):
    size = data.draw(st.integers(1, clients))
    for number in (1, 2, 30):
        cohort = Cohorts(clients, size, seed, dropout).of_round(number)
        assert len(set(cohort)) == size
        assert cohort == sorted(cohort)
        assert set(cohort) <= set(range(clients))
        assert cohort == Cohorts(clients, size, seed).of_round(number)
        assert Cohorts(clients, size, seed, dropout).lost(number) <= set(cohort)


def test_everybody_is_drawn_equally_often_and_lost_as_often_as_asked():
    cohorts = Cohorts(10, 3, seed=0, dropout=0.25)
    drawn = np.bincount(np.concatenate([cohorts.of_round(number) for number in range(3000)]))
    assert np.abs(drawn / 3000 - 0.3).max() < 0.03
    assert sum(len(cohorts.lost(number)) for number in range(3000)) / 9000 == pytest.approx(0.25, abs=0.02)


def test_the_cohorts_of_a_seed_never_change():
    assert [Cohorts(10, 3, seed=7).of_round(number) for number in (1, 2, 3)] == [
        [0, 1, 6],
        [5, 8, 9],
        [2, 4, 8],
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 5, 0), "a cohort of 5 of 4 clients"),
        ((4, 0, 0), "a cohort of 0 of 4"),
        ((4, 2, 0, 1.0), "dropout is 1.0"),
        ((4, 2, 0, -0.1), "dropout is -0.1"),
    ],
)
def test_numbers_out_of_bounds(arguments, said):
    with pytest.raises(FederationError, match=said):
        Cohorts(*arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deadline_s": 0.0}, "deadline_s is 0.0, allowed is more than 0"),
        ({"deadline_s": float("inf")}, "deadline_s is inf"),
        ({"slowness": {4: 2.0}}, "slowness of client 4, clients are 0 to 3"),
        ({"slowness": {1: 0.0}}, "slowness of client 1 is 0.0, allowed is more than 0"),
        ({"slowness": {1: float("nan")}}, "slowness of client 1 is nan"),
    ],
)
def test_times_out_of_bounds(options, said):
    with pytest.raises(FederationError, match=said):
        Cohorts(4, 2, 0, **options)
