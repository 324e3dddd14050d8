import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.errors import SimulationError
from fedsim.simulator.arrivals import ClosedLoop, Listed, Periodic, Poisson, available, from_options


def drawn(arrivals, until_s=np.inf, most=None, seed=0):
    return arrivals.times(np.random.default_rng(seed), until_s, most)


def test_periodic():
    assert drawn(Periodic(2.0, 0.5), 6.0).tolist() == [0.5, 2.5, 4.5]
    assert drawn(Periodic(2.0, 0.5), 6.5).tolist() == [0.5, 2.5, 4.5]
    assert drawn(Periodic(2.0, 0.5), most=2).tolist() == [0.5, 2.5]
    assert drawn(Periodic(2.0, 7.0), 6.0).tolist() == []
    phases = [drawn(Periodic(2.0), 2.0, seed=seed)[0] for seed in range(200)]
    assert 0 <= min(phases) < 0.1
    assert 1.9 < max(phases) < 2.0


@given(st.floats(0.01, 10), st.floats(0, 100), st.integers(0, 2**32 - 1))
def test_all_times_are_in_time_and_in_order(scale, until_s, seed):
    for arrivals in (Periodic(scale), Poisson(1 / scale), Listed((0.0, 1.0, 1.0, 50.0))):
        times = drawn(arrivals, until_s, seed=seed)
        assert ((times >= 0) & (times < until_s)).all()
        assert (np.diff(times) >= 0).all()
        assert times.tobytes() == drawn(arrivals, until_s, seed=seed).tobytes()
        assert not arrivals.paused


def test_poisson_has_its_rate_and_independent_gaps():
    for times in (drawn(Poisson(5.0), 4000.0), drawn(Poisson(5.0), most=20000)):
        gaps = np.diff(times)
        assert gaps.mean() == pytest.approx(0.2, rel=0.03)
        assert gaps.std() == pytest.approx(0.2, rel=0.05)
        assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03


def test_a_closed_loop_has_pauses():
    assert ClosedLoop(0.5).paused
    assert drawn(ClosedLoop(0.5), most=3).tolist() == [0.5] * 3
    assert drawn(ClosedLoop(0.5, random=True), most=20000).mean() == pytest.approx(0.5, rel=0.03)


def test_a_scenario_names_them_by_kind():
    assert from_options({"kind": "poisson", "rate_hz": 2}) == Poisson(2)
    assert from_options({"kind": "listed", "at_s": [0, 1.5]}) == Listed((0, 1.5))
    assert from_options({"kind": "closed"}) == ClosedLoop()
    assert set(available()) == {"closed", "periodic", "poisson", "listed"}
    assert all(available().values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "poison", "rate_hz": 2}, "arrivals: 'poison' is an unknown kind; did you mean 'poisson'"),
        ({"rate_hz": 2}, "None is an unknown kind"),
        ({"kind": ["poisson"]}, "unknown kind"),
        ({"kind": "poisson"}, "arrivals: poisson needs rate_hz"),
        ({"kind": "poisson", "rate": 2}, "'rate' is an unknown option of poisson; did you mean 'rate_hz'"),
        ({"kind": "poisson", "rate_hz": "fast"}, "rate_hz is 'fast', which is a text"),
        ({"kind": "poisson", "rate_hz": None}, "cannot be used"),
        ({"kind": "poisson", "rate_hz": 0}, "rate_hz is 0, allowed is a number, more than 0"),
        ({"kind": "listed", "at_s": 3}, "the times of a list"),
    ],
)
def test_what_names_none_is_said(options, message):
    with pytest.raises(SimulationError, match=message):
        from_options(options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Periodic(0.0), "period_s is 0.0, allowed is a number, more than 0"),
        (lambda: Periodic(1.0, -1.0), "phase_s is -1.0, allowed is a number, 0 and more"),
        (lambda: Poisson(np.nan), "rate_hz is nan"),
        (lambda: ClosedLoop(-1.0), "pause_s is -1.0"),
        (lambda: Listed((1.0, 0.5)), "never to go back"),
        (lambda: Listed((-1.0,)), "0 or more"),
        (lambda: drawn(Poisson(1.0)), "with rate_hz alone there is no end"),
        (lambda: drawn(Periodic(1.0)), "with period_s alone there is no end"),
        (lambda: drawn(ClosedLoop(1.0)), "a closed loop has no end"),
    ],
)
def test_what_is_wrong_is_said(wrong, message):
    with pytest.raises(SimulationError, match=message):
        wrong()
