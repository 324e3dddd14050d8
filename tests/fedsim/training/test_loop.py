"""The learning rate on its way, and the batches of an epoch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsim.training.loop import Images, batches, one_cycle


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


@given(st.integers(1, 40), st.integers(1, 12))
def test_an_epoch_has_every_image_once_and_no_lone_last_one(count: int, size: int) -> None:
    images = Images(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count))
    parts = list(batches(images, size, torch.Generator().manual_seed(0)))
    lengths = [len(part.indices) for part in parts]
    assert sorted(torch.cat([part.labels for part in parts]).tolist()) == list(range(count))
    assert all(length == size for length in lengths[:-2])
    assert max(lengths) <= size + 1
    assert min(lengths) > 1 or size == 1 or count == 1
