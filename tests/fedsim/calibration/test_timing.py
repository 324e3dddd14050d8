"""The estimator, on times that are known."""

import math

import numpy as np
import pytest

from fedsim.calibration.timing import LEAST_ROUNDS, Timing, measure, quartiles, spread, timed


def test_of_a_block_the_shortest_call_counts_and_of_the_blocks_the_median() -> None:
    calls = 0

    def disturbed(number: int) -> float:
        """2 s, 3 s, 10 s, ... by round, but every other call takes a minute more."""
        nonlocal calls
        calls += 1
        return [2.0, 3.0, 10.0][number % 3] + 60.0 * (calls % 2)

    timing = measure({"one": disturbed}, 0.05)["one"]
    assert set(timing.minima) <= {2.0, 3.0, 10.0}
    assert timing.minima[:3].tolist() == [2.0, 3.0, 10.0]
    assert timing.seconds == np.median(timing.minima)


def test_subjects_take_turns_and_each_is_tried_before_it_counts() -> None:
    order: list[tuple[str, int]] = []

    def subject(name: str):
        def run(number: int) -> float:
            order.append((name, number))
            return 1.0

        return run

    parts: list[float] = []
    found = measure({name: subject(name) for name in "ab"}, 0.01, parts.append)
    assert order[:4] == [("a", 0), ("a", 0), ("b", 0), ("b", 0)]
    turns = [one for before, one in zip([None, *order[4:]], order[4:], strict=False) if one != before]
    rounds = len(found["a"].minima)
    assert rounds >= LEAST_ROUNDS
    assert turns == [(name, number) for number in range(rounds) for name in "ab"]
    assert parts == sorted(parts)
    assert parts[0] > 0
    assert parts[-1] <= 1


def test_three_rounds_are_run_however_long_they_take() -> None:
    calls: list[int] = []

    def slow(number: int) -> float:
        calls.append(number)
        return 1e-9

    measure({0: slow}, 1e-9)
    assert calls == [0, 0, 0, 1, 2]


def test_work_is_timed_as_a_whole() -> None:
    seen: list[int] = []
    assert timed(seen.append)(7) > 0
    assert seen == [7]


def test_spread_is_that_of_the_quartiles() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert quartiles(values) == (2.0, 4.0)
    assert spread(values) == pytest.approx(2 / 3)
    assert Timing(values).seconds == 3.0
    assert spread(np.zeros(3)) == math.inf


@pytest.mark.parametrize(("subjects", "seconds"), [({}, 1.0), ({"a": lambda number: 1.0}, 0.0)])
def test_nothing_to_measure_or_no_time(subjects, seconds: float) -> None:
    with pytest.raises(ValueError, match="needs one, and more than 0 s"):
        measure(subjects, seconds)
