import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.power import DevicePower

PI_4 = DevicePower(base_w=2.8, active_w=6.4)


def test_energy_of_a_span_by_hand() -> None:
    # 1 GMAC at 10 GMAC/s: 0.1 s busy of 1 s.
    found = PI_4.energy(0.1, 1.0)
    assert found.incremental_j == pytest.approx(0.36, rel=1e-12)
    assert found.total_j == pytest.approx(2.8 + 0.36, rel=1e-12)
    # With nothing but the computing, that is the published 0.64 J a GMAC.
    assert PI_4.energy(0.1, 0.1).total_j == pytest.approx(0.64, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1e5), st.floats(0, 1), st.floats(0, 1e5))
def test_spans_add_up_and_the_mean_power_is_their_energy(
    part: float, span: float, other_part: float, other_span: float
) -> None:
    one, other = PI_4.energy(part * span, span), PI_4.energy(other_part * other_span, other_span)
    both = PI_4.energy(part * span + other_part * other_span, span + other_span)
    assert both.total_j == pytest.approx(one.total_j + other.total_j)
    assert both.incremental_j == pytest.approx(one.incremental_j + other.incremental_j)
    assert PI_4.mean_w(part) * span == pytest.approx(one.total_j)
    assert both.total_j - both.incremental_j == pytest.approx(2.8 * (span + other_span))


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"base_w 3 and active_w 2 have to be 0 or more"):
        DevicePower(3, 2)
    with pytest.raises(ValueError, match=r"busy for 2 s of 1 s"):
        PI_4.energy(2, 1)
    with pytest.raises(ValueError, match=r"utilisation 1.1 is not within 0 to 1"):
        PI_4.mean_w(1.1)
