import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.energy.integral import integral
from edge.energy.meter import MeterError

GAPS = st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=40)
WATTS = st.floats(0, 100)
SHARE = st.floats(0, 1)


def test_by_hand():
    # A ramp from 0 to 4 W in 2 s, then 1 s of 4 W: from 0.5 s on, at 1 W.
    assert integral([0, 2, 3], [0, 4, 4], 0.5, 2.5, 2) == pytest.approx((1 + 4) / 2 * 1.5 + 4 * 0.5)


@given(GAPS, st.data())
def test_is_the_trapezoidal_rule_with_the_edges_interpolated(gaps, data):
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    watts = data.draw(st.lists(WATTS, min_size=len(times), max_size=len(times)))
    begin, end = sorted(data.draw(SHARE) * times[-1] for _ in range(2))
    inside = times[(times > begin) & (times < end)]
    grid = np.concatenate([[begin], inside, [end]])
    expected = np.trapz(np.interp(grid, times, watts), grid)
    assert integral(times.tolist(), watts, begin, end, 1.0 + 1e-9) == pytest.approx(expected, abs=1e-9)


@given(GAPS, WATTS, SHARE, st.data())
def test_windows_side_by_side_add_up(gaps, watts, share, data):
    times = np.concatenate([[0.0], np.cumsum(gaps)]).tolist()
    samples = data.draw(st.lists(WATTS, min_size=len(times), max_size=len(times)))
    middle = share * times[-1]
    whole = integral(times, samples, 0.0, times[-1], 2.0)
    parts = integral(times, samples, 0.0, middle, 2.0) + integral(times, samples, middle, times[-1], 2.0)
    assert parts == pytest.approx(whole, abs=1e-9)
    assert integral(times, [watts] * len(times), 0.0, middle, 2.0) == pytest.approx(watts * middle, abs=1e-9)


@pytest.mark.parametrize(
    ("times", "begin", "end", "message"),
    [
        ([], 0, 1, "no samples"),
        ([1, 2], 0.5, 1.5, "first sample is 0.5 s later than the window begins"),
        ([0, 1], 0.5, 3, "last sample is 2 s earlier than the window ends"),
        (
            [0, 1, 4, 5],
            0.5,
            4.5,
            "no sample for 3 s, from 0.5 s of the window on; the longest gap allowed is 2 s",
        ),
    ],
)
def test_what_the_samples_do_not_say_is_refused(times, begin, end, message):
    with pytest.raises(MeterError, match=message):
        integral(times, [1.0] * len(times), begin, end, 2)


def test_a_gap_outside_of_the_window_does_not_matter():
    assert integral([0, 9, 10, 11, 20], [1] * 5, 9, 11, 2) == 2


def test_power_may_step():
    assert integral([0, 1, 1, 2], [1, 1, 3, 3], 0, 2, 2) == 4


def test_an_empty_window_has_no_energy():
    assert integral([0, 1], [5, 5], 0.5, 0.5, 2) == 0
