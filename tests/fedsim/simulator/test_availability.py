import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import SimulationError
from fedsim.simulator.availability import Churn, Shifts, Spans, available, from_options, present


def drawn(availability, until_s, seed=0):
    return availability.spans(np.random.default_rng(seed), until_s)


def test_shifts():
    assert drawn(Shifts(3.0, 2.0, 0.0), 11.0).tolist() == [[0, 3], [5, 8], [10, 13]]
    assert drawn(Shifts(3.0, 2.0, 1.0), 9.0).tolist() == [[0, 2], [4, 7]]
    assert drawn(Shifts(3.0, 2.0, 4.0), 6.0).tolist() == [[1, 4]]


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 100), st.integers(0, 2**32 - 1))
def test_spans_are_in_order_and_do_not_touch(on_s, off_s, until_s, seed):
    for availability in (Shifts(on_s, off_s), Churn(on_s, off_s)):
        spans = drawn(availability, until_s, seed)
        assert spans.shape[1:] == (2,)
        assert (spans >= 0).all()
        assert (np.diff(spans.ravel()) > 0).all()
        assert (spans[:, 0] < until_s).all()


def test_churn_is_there_for_its_share_of_the_time():
    shares = []
    for seed in range(40):
        spans = np.minimum(drawn(Churn(3.0, 1.0), 1000.0, seed), 1000.0)
        shares.append(np.diff(spans, axis=1).sum() / 1000)
    assert np.mean(shares) == pytest.approx(0.75, abs=0.01)
    at_first = [present(drawn(Churn(3.0, 1.0), 1.0, seed), np.zeros(1))[0] for seed in range(1000)]
    assert np.mean(at_first) == pytest.approx(0.75, abs=0.05)


@given(st.lists(st.floats(0, 20), min_size=0, max_size=20), st.integers(0, 2**32 - 1))
def test_present(times, seed):
    spans = drawn(Churn(2.0, 2.0), 20.0, seed)
    found = present(spans, np.array(times))
    assert found.tolist() == [any(begin <= t < end for begin, end in spans) for t in times]


def test_noted_spans():
    noted = Spans(((0.0, 1.0), (2.0, 3.0), (8.0, 9.0)))
    assert drawn(noted, 5.0).tolist() == [[0, 1], [2, 3]]
    assert drawn(Spans(()), 5.0).shape == (0, 2)
    assert not present(drawn(Spans(()), 5.0), np.array([1.0])).any()


def test_a_scenario_names_it_by_kind():
    assert from_options({"kind": "churn", "mean_on_s": 600, "mean_off_s": 60}) == Churn(600, 60)
    assert from_options({"kind": "spans", "on": [[0, 1], [2, 3]]}) == Spans(((0, 1), (2, 3)))
    assert set(available()) == {"shifts", "churn", "spans"}
    with pytest.raises(SimulationError, match="availability: 'shift' is an unknown kind; did you"):
        from_options({"kind": "shift"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Shifts(0.0, 1.0), "on_s is 0.0, allowed is a number, more than 0"),
        (lambda: Churn(1.0, np.inf), "mean_off_s is inf"),
        (lambda: Spans(((1.0, 0.0),)), "pairs of times that always increase"),
        (lambda: Spans(((0.0, 2.0), (1.0, 3.0))), "pairs of times that always increase"),
    ],
)
def test_what_is_wrong_is_said(wrong, message):
    with pytest.raises(SimulationError, match=message):
        wrong()
