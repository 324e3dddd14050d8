import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedsim.measure.bjontegaard import Curve, NoComparisonError, accuracy_at, bd_accuracy, bd_rate, bytes_at

Points = list[tuple[float, float]]

BASE: Points = [(20, 0.80), (40, 0.86), (80, 0.90), (160, 0.91)]


@st.composite
def rising(draw: st.DrawFn) -> Points:
    """Points of a curve that rises, as those of a good encoder do."""
    count = draw(st.integers(2, 6))
    sizes = draw(st.lists(st.integers(1, 60), min_size=count, max_size=count))
    gains = draw(st.lists(st.integers(1, 30), min_size=count, max_size=count))
    size, accuracy, points = 1.0, 0.3, []
    for ratio, gain in zip(sizes, gains, strict=True):
        size *= 1 + ratio / 20
        accuracy += gain / 600
        points.append((size, accuracy))
    return points


@settings(max_examples=40, deadline=None)
@given(rising(), st.floats(0.01, 100))
def test_a_curve_of_k_times_the_bytes_is_100_k_minus_1_per_cent_away(points: Points, k: float) -> None:
    there = bd_rate(Curve.through([(k * b, a) for b, a in points]), Curve.through(points))
    assert there.value == pytest.approx(100 * (k - 1), rel=1e-9, abs=1e-9)
    assert (there.low, there.high) == (points[0][1], points[-1][1])


@settings(max_examples=40, deadline=None)
@given(rising(), st.floats(-0.29, 0.29))
def test_a_curve_of_d_more_accuracy_is_100_d_points_away(points: Points, d: float) -> None:
    there = bd_accuracy(Curve.through([(b, a + d) for b, a in points]), Curve.through(points))
    assert there.value == pytest.approx(100 * d, rel=1e-9, abs=1e-9)
    assert (there.low, there.high) == (points[0][0], points[-1][0])


def test_straight_lines_by_hand() -> None:
    # Log10 bytes over accuracy: 1 + 10 (a - 0.8) against 1.5 + 5 (a - 0.8), from 0.8 to 0.9: the mean
    # difference is 5 * 0.05 - 0.5 = -0.25.
    curve = Curve.through([(10, 0.8), (100, 0.9)])
    anchor = Curve.through([(10**1.5, 0.8), (100, 0.9)])
    assert bd_rate(curve, anchor).value == pytest.approx(100 * (10**-0.25 - 1))
    # Accuracy over log10 bytes, from 1.5 to 2: 0.8 + 0.1 (x - 1) against 0.8 + 0.2 (x - 1.5): the mean
    # difference is 0.05 / 2.
    gain = bd_accuracy(curve, anchor)
    assert gain.value == pytest.approx(2.5)
    assert (gain.low, gain.high) == (10**1.5, 100)


@settings(max_examples=40, deadline=None)
@given(rising(), rising())
def test_the_other_way_round_is_the_inverse(one: Points, other: Points) -> None:
    a, b = Curve.through(one), Curve.through(other)
    try:
        rate, gain = bd_rate(a, b).value, bd_accuracy(a, b).value
    except NoComparisonError:
        assume(False)
    assert (1 + rate / 100) * (1 + bd_rate(b, a).value / 100) == pytest.approx(1)
    assert bd_accuracy(b, a).value == pytest.approx(-gain, abs=1e-9)


def test_only_the_common_range_counts() -> None:
    longer = Curve.through([*BASE, (1000, 0.97)])
    found = bd_rate(longer, Curve.through(BASE))
    assert (found.low, found.high) == (0.80, 0.91)
    found = bd_accuracy(longer, Curve.through(BASE))
    assert (found.low, found.high) == (20, 160)


def test_what_cannot_be_compared_says_why() -> None:
    base = Curve.through(BASE)
    one = Curve.through([(100, 0.9)])
    flat = Curve.through([(100, 0.9), (200, 0.9)])
    low, small = Curve.through([(1, 0.1), (2, 0.8)]), Curve.through([(1, 0.1), (2, 0.9)])
    cases = [
        (bd_rate, one, base, "^one point, a curve takes two$"),
        (bd_rate, base, one, "^the anchor has one point, a curve takes two$"),
        (bd_accuracy, one, base, "^one point, a curve takes two$"),
        (bd_accuracy, base, one, "^the anchor has one point, a curve takes two$"),
        (bd_rate, flat, base, "^2 points of one accuracy$"),
        (bd_rate, low, base, r"10.0–80.0 %, the anchor 80.0–91.0 %$"),  # noqa: RUF001
        (bd_accuracy, small, base, "sizes in common: 1–2 B, the anchor 20–160 B$"),  # noqa: RUF001
    ]  # fmt: skip
    for measure, curve, anchor, words in cases:
        with pytest.raises(NoComparisonError, match=words):
            measure(curve, anchor)


def test_a_curve_is_made_monotone() -> None:
    curve = Curve.through([(40, 0.9), (10, 0.8), (20, 0.92), (80, 0.95), (80, 0.93)])
    assert curve.sizes == (10, 20, 40, 80)
    assert curve.accuracies == pytest.approx((0.8, 0.91, 0.91, 0.94))
    # A plateau is reached where it begins.
    assert bytes_at(curve, curve.accuracies[1]) == pytest.approx(20)


@pytest.mark.parametrize("points", [[], [(0.0, 0.5)], [(-1.0, 0.5), (2.0, 0.6)], [(math.inf, 0.5)]])
def test_points_that_have_no_place_on_the_axis_are_refused(points: Points) -> None:
    with pytest.raises(ValueError, match="points of more than 0 bytes"):
        Curve.through(points)


@settings(max_examples=40, deadline=None)
@given(rising())
def test_interpolation_passes_through_the_points_and_stops_at_the_ends(points: Points) -> None:
    curve = Curve.through(points)
    for size, accuracy in points:
        assert bytes_at(curve, accuracy) == pytest.approx(size)
        assert accuracy_at(curve, size) == pytest.approx(accuracy)
    assert bytes_at(curve, points[0][1] - 1e-6) is None
    assert bytes_at(curve, points[-1][1] + 1e-6) is None
    assert accuracy_at(curve, points[0][0] * 0.999) is None
    assert accuracy_at(curve, points[-1][0] * 1.001) is None


def test_interpolation_between_two_points_is_straight_over_log_bytes() -> None:
    curve = Curve.through([(10, 0.8), (1000, 0.9)])
    assert bytes_at(curve, 0.85) == pytest.approx(100)
    assert accuracy_at(curve, 100) == pytest.approx(0.85)


def test_a_single_point_is_known_where_it_is_and_nowhere_else() -> None:
    curve = Curve.through([(100, 0.9)])
    assert bytes_at(curve, 0.9) == pytest.approx(100)
    assert accuracy_at(curve, 100) == 0.9
    assert bytes_at(curve, 0.91) is None
    assert accuracy_at(curve, 101) is None
