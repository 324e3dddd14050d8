"""The learning rate on its way."""

import pytest

from fedsim.training.loop import one_cycle


def test_the_learning_rate_rises_over_a_tenth_and_falls_to_nothing() -> None:
    rates = [one_cycle(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_short_stage_has_a_learning_rate_at_every_step(steps: int) -> None:
    assert all(0 < one_cycle(step, steps) <= 1 for step in range(steps))
