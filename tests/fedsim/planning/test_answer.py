from hypothesis import given
from hypothesis import strategies as st

from fedsim.planning import QUANTITIES, Goal, Setting, answer_to, asked

from .settings import choice, setting, trained

steps = st.integers(1, 5)
figures = st.builds(
    lambda right, joules, ms, size: {
        "right": 800 + 30 * right,
        "joules": joules and 0.01 * joules,
        "ms": 20.0 * ms,
        "size": 10.0 * size,
    },
    steps,
    st.one_of(st.none(), steps),
    steps,
    steps,
)
several = st.lists(figures, min_size=1, max_size=8).map(
    lambda listed: [setting(f"s{number}", **one) for number, one in enumerate(listed)]
)
goals = st.builds(
    lambda accuracy, ms, size, minimise: asked(
        accuracy=accuracy and 0.8 + 0.03 * accuracy,
        latency_ms=ms and 20.0 * ms,
        payload_bytes=size and 10.0 * size,
        minimise=minimise,
    ),
    *[st.one_of(st.none(), st.integers(1, 6))] * 3,
    st.sampled_from([None, "error", "latency", "bytes"]),
)


def value(one: Setting, name: str) -> float:
    found = QUANTITIES[name].read(one)
    assert found is not None
    return found


@given(several, goals)
def test_what_is_recommended_meets_the_goal_is_least_and_beaten_by_none(
    settings: list[Setting], goal: Goal
) -> None:
    found = answer_to(settings, goal)
    meeting = [one for one in settings if goal.met(one)]
    assert sorted(one.name for one in found.meeting) == sorted(one.name for one in meeting)
    if found.recommended is None:
        assert not meeting
        return
    least = found.goal.minimise
    assert least is not None
    assert value(found.recommended, least) == min(value(one, least) for one in meeting)
    assert found.recommended in found.front
    assert (found.obstacles, found.nearest) == ((), None)


@given(several, goals)
def test_what_stands_in_the_way_is_told_for_every_bound(settings: list[Setting], goal: Goal) -> None:
    found = answer_to(settings, goal)
    if found.recommended is not None:
        return
    assert {one.quantity for one in found.obstacles} == set(goal.bounds)
    for one in found.obstacles:
        dropped = Goal({name: most for name, most in goal.bounds.items() if name != one.quantity})
        rest = [other for other in settings if dropped.met(other)]
        assert one.binds == bool(rest)
        if one.among_rest is not None:
            lowest = min(value(other, one.quantity) for other in rest)
            assert value(one.among_rest, one.quantity) == lowest > goal.bounds[one.quantity]
        lowest = min(value(other, one.quantity) for other in settings)
        assert value(one.alone, one.quantity) == lowest
        assert one.reachable == (lowest <= goal.bounds[one.quantity])
    assert found.nearest is not None
    assert goal.shortfall(found.nearest) == min(map(goal.shortfall, settings)) > 0


@given(several, goals)
def test_the_order_of_the_settings_is_of_no_account(settings: list[Setting], goal: Goal) -> None:
    one, other = answer_to(settings, goal), answer_to(settings[::-1], goal)
    assert {s.name for s in one.front} == {s.name for s in other.front}
    for mine, theirs in ((one.recommended, other.recommended), (one.nearest, other.nearest)):
        figures_of = [s and [quantity.read(s) for quantity in QUANTITIES.values()] for s in (mine, theirs)]
        assert figures_of[0] == figures_of[1]


def test_the_least_energy_that_is_accurate_enough() -> None:
    found = answer_to(choice(), asked(accuracy=0.9))
    assert [one.name for one in found.front] == ["small", "middle", "large", "raw"]
    assert [one.name for one in found.meeting] == ["middle", "beaten", "large", "raw", "local"]
    assert found.recommended is found.meeting[0]


def test_of_equal_ones_the_more_accurate() -> None:
    pair = [setting("a", 900), setting("b", 910)]
    assert answer_to(pair, asked(accuracy=0.9)).recommended is pair[1]
    assert answer_to(pair[::-1], asked(accuracy=0.9)).recommended is pair[1]


def test_the_front_has_what_the_goal_is_about() -> None:
    assert "local" in [one.name for one in answer_to(choice(), asked(payload_bytes=100)).front]
    fronts = {one.name for one in answer_to(choice(), asked(accuracy=0.9, latency_ms=100)).front}
    assert fronts == {"small", "middle", "large", "raw", "local"}


def test_the_surest_meets_the_goal_with_its_whole_interval() -> None:
    found = answer_to(choice(), asked(accuracy=0.91))
    assert found.recommended is not None
    assert found.recommended.name == "middle"
    assert found.recommended.accuracy_interval[0] < 0.91
    assert found.surest is not None
    assert found.surest.name == "large"
    assert answer_to(choice(), asked(accuracy=0.955)).surest is None


def test_two_bounds_that_contradict_each_other() -> None:
    found = answer_to(choice(), asked(accuracy=0.94, joules=0.01))
    assert found.recommended is None
    accuracy, energy = found.obstacles
    assert (accuracy.among_rest.name, energy.among_rest.name) == ("middle", "large")  # type: ignore[union-attr]
    assert accuracy.binds
    assert energy.binds
    assert (accuracy.alone.name, energy.alone.name) == ("local", "small")
    assert found.nearest is not None
    assert found.nearest.name == "middle"


def test_what_no_setting_reaches() -> None:
    found = answer_to(choice(), asked(accuracy=0.99, payload_bytes=5, joules=0.001))
    assert [(one.binds, one.reachable) for one in found.obstacles] == [
        (False, False),
        (False, False),
        (False, True),
    ]


def test_means_over_seeds_decide() -> None:
    pair = setting("pair", by_seed=(trained(880, 1, 30), trained(940, 2, 34)))
    assert pair.accuracy == 0.91
    assert pair.candidate.payload_bytes == 32
    low, high = pair.accuracy_interval
    assert low < 0.6
    assert high == 1
    assert answer_to([pair], asked(accuracy=0.91, payload_bytes=32)).recommended is pair
