import math
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.battery import Battery

pieces = st.lists(
    st.tuples(st.floats(0.1, 100), st.sampled_from([0.0, 0.5, 2.0, 7.25])), min_size=1, max_size=6
)


def test_charge_and_voltage_are_joules() -> None:
    assert Battery.from_charge(4000, 3.85).joules == pytest.approx(55_440)
    assert Battery.from_charge(1000, 1.0) == Battery(3600.0)


def test_lifetime_at_a_mean_power() -> None:
    assert Battery(3600).lifetime(0.5) == 7200
    assert Battery(3600).lifetime(0) == math.inf


def test_depletion_by_hand() -> None:
    battery = Battery(100)
    # 10 s at 4 W, 20 s at 0 W, then 60 J are left: 30 s at 2 W.
    assert battery.depletion([10, 20, 100], [4, 0, 2]) == pytest.approx(60)
    assert battery.depletion([10, 20], [4, 0]) == math.inf
    # 20 J in each cycle of 30 s; the fifth empties it when its 10 s at 2 W are over.
    assert battery.depletion([10, 20], [2, 0], repeat=True) == pytest.approx(4 * 30 + 10)
    assert battery.depletion([10, 20], [0, 0], repeat=True) == math.inf
    # It empties as the first piece ends, and not where the next draw begins.
    assert battery.depletion([50, 20, 1], [2, 0, 2]) == pytest.approx(50)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 3000), pieces)
def test_what_was_drawn_by_then_is_what_it_held(joules: float, schedule: list[tuple[float, float]]) -> None:
    seconds, watts = zip(*schedule, strict=True)
    for repeat in (False, True):
        end = Battery(joules).depletion(seconds, watts, repeat=repeat)
        if end == math.inf:
            assert repeat is False or sum(watts) == 0
            assert sum(s * w for s, w in schedule) < joules or sum(watts) == 0
            continue
        drawn = passed = 0.0
        for lasts, power in cycle(schedule) if repeat else schedule:
            part = min(lasts, end - passed)
            drawn, passed = drawn + part * power, passed + lasts
            if passed >= end:
                break
        assert drawn == pytest.approx(joules, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(1, 3000), st.floats(0.1, 10), st.floats(0.01, 10))
def test_constant_power_is_the_lifetime(joules: float, power: float, piece: float) -> None:
    battery = Battery(joules)
    assert battery.depletion([piece], [power], repeat=True) == pytest.approx(battery.lifetime(power))


@pytest.mark.parametrize("joules", [0.0, -1.0, math.inf, math.nan])
def test_no_battery_without_a_capacity(joules: float) -> None:
    with pytest.raises(ValueError, match="has to be more than 0"):
        Battery(joules)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="volts is 0"):
        Battery.from_charge(1000, 0)
    with pytest.raises(ValueError, match="mean_w is -1"):
        Battery(1).lifetime(-1)
    with pytest.raises(ValueError, match=r"seconds \(2,\) and watts \(1,\)"):
        Battery(1).depletion([1, 2], [1])
    with pytest.raises(ValueError, match="watts have to be 0 or more"):
        Battery(1).depletion([1], [-1])
