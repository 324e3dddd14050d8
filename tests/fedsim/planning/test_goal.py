import math
from typing import Any

import pytest

from fedsim.planning import Goal, PlanningError, asked

from .settings import choice, setting


def test_what_is_asked_for() -> None:
    goal = asked(accuracy=0.9, joules=0.05, latency_ms=200, payload_bytes=100, wire_bytes=400)
    assert goal.bounds == {
        "error": pytest.approx(0.1),
        "joules": 0.05,
        "latency-p95": 200,
        "bytes": 100,
        "wire-bytes": 400,
    }
    assert asked(latency_ms=7, percentile="p50", minimise="latency") == Goal(
        {"latency-p50": 7}, "latency-p50", "p50"
    )
    said = "accuracy at least 90 %, energy at most 50.0 mJ, p95 latency at most 200 ms, payload at most 100 B"
    assert str(goal) == f"{said}, wire bytes at most 400 B"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"accuracy": 90},
            "--accuracy = 90: allowed is a number from 0 to 1; 90 per cent is 0.9, so 90 is 0.9",
        ),
        ({"accuracy": -0.1}, "--accuracy = -0.1: allowed is a number from 0 to 1"),
        ({"accuracy": math.nan}, "--accuracy = nan: allowed is a number from 0 to 1"),
        ({"joules": 0}, "--joules = 0: allowed is a number, more than 0"),
        ({"payload_bytes": -3}, "--bytes = -3: allowed is a number, more than 0"),
        ({"wire_bytes": math.inf}, "--wire-bytes = inf: allowed is a number, more than 0"),
        ({"latency_ms": math.nan}, "--latency-ms = nan: allowed is a number, more than 0"),
        ({"percentile": "p99"}, "--latency-of = p99: allowed are p50, p95"),
        ({"minimise": "money"}, "--minimise = money: allowed are error, joules, latency, bytes, wire-bytes"),
    ],
)
def test_what_is_no_goal_is_one_clear_message(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanningError) as caught:
        asked(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("goal", "least"),
    [
        (asked(), "error"),
        (asked(payload_bytes=9), "error"),
        (asked(accuracy=0.9), "joules"),
        (asked(accuracy=0.9, joules=1), "latency-p95"),
        (asked(accuracy=0.9, joules=1, percentile="p50"), "latency-p50"),
        (asked(accuracy=0.9, joules=1, latency_ms=9), "bytes"),
        (asked(accuracy=0.9, joules=1, latency_ms=9, payload_bytes=9), "joules"),
        (asked(accuracy=0.9, minimise="wire-bytes"), "wire-bytes"),
    ],
)
def test_what_decides_if_nothing_is_said(goal: Goal, least: str) -> None:
    assert goal.settled(choice()).minimise == least


def test_what_is_not_known_of_all_does_not_decide() -> None:
    settings = [setting("a"), setting("b", joules=None)]
    assert asked(accuracy=0.9).settled(settings).minimise == "latency-p95"
    assert asked(accuracy=0.9, minimise="joules").settled(settings).minimise == "joules"


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (asked(joules=1), "--joules = 1: the energy is not known of any setting; it takes devices"),
        (asked(minimise="joules"), "--minimise = joules: the energy is not known"),
        (asked(wire_bytes=5), "--wire-bytes = 5: the wire bytes is not known of any setting"),
    ],
)
def test_a_goal_about_what_is_known_of_none_is_an_error(goal: Goal, message: str) -> None:
    with pytest.raises(PlanningError) as caught:
        goal.settled([setting("a", joules=None, wire=None)])
    assert str(caught.value).startswith(message)


def test_a_goal_is_met_at_its_bounds_and_not_beyond() -> None:
    goal = asked(accuracy=0.9, payload_bytes=40, joules=0.01)
    assert goal.met(setting("a", 900, size=40, joules=0.01))
    assert not goal.met(setting("a", 899))
    assert not goal.met(setting("a", size=40.01))
    assert goal.met(setting("a", size=40.01), without="bytes")
    assert not goal.met(setting("a", joules=None))


def test_shortfall_is_what_is_too_much_in_shares_of_what_is_allowed() -> None:
    goal = asked(accuracy=0.9, payload_bytes=40)
    assert goal.shortfall(setting("a", 950, size=12)) == 0
    assert goal.shortfall(setting("a", 850, size=12)) == pytest.approx(0.5)  # 15 % wrong, 10 % allowed
    assert goal.shortfall(setting("a", 850, size=80)) == pytest.approx(1.5)
    assert goal.shortfall(setting("a", size=None)) == math.inf
    assert asked(accuracy=1).shortfall(setting("a", 990)) == pytest.approx(9)  # of 0.1 %


def test_a_sample_that_fails_counts_as_wrong() -> None:
    one = setting("a", 950, failed=0.1)
    assert one.accuracy == pytest.approx(0.855)
    assert one.accuracy_interval[0] < 0.855 < one.accuracy_interval[1]
    assert not asked(accuracy=0.9).met(one)


def test_the_objectives_are_the_accuracy_what_has_a_bound_and_what_decides() -> None:
    assert asked(joules=1).settled(choice()).objectives == ("error", "joules")
    assert asked(payload_bytes=9, minimise="latency").objectives == ("error", "latency-p95", "bytes")
