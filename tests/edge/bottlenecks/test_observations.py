"""What is kept of a stream of samples: bounded, even, and the same however it is cut into batches."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bottlenecks.observations import Observations


def kept(limit: int, batches: list[int], values: int = 1 << 20) -> list[int]:
    observations = Observations(samples=limit, values=values)
    numbers = torch.arange(sum(batches)).float().view(-1, 1)
    for batch in numbers.split(batches):
        observations.add(batch)
    return observations.stacked().flatten().int().tolist()


@given(st.integers(1, 40), st.lists(st.integers(1, 30), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_samples_kept_lie_evenly_over_all_that_were_seen(limit: int, batches: list[int]) -> None:
    total = sum(batches)
    numbers = kept(limit, batches)
    assert len(numbers) <= limit
    stride = 1 if len(numbers) == 1 else numbers[1]
    assert numbers == list(range(0, numbers[-1] + 1, stride))  # evenly, from the first
    assert len(numbers) >= min(total, (limit + 1) // 2)  # no more thrown away than has to be
    assert numbers == kept(limit, [total])  # in one batch as in many


def test_large_samples_are_fewer() -> None:
    assert kept(100, [50], values=10) == [0, 8, 16, 24, 32, 40, 48]
    assert kept(100, [5], values=0) == [0]


def test_nothing_is_left_when_it_is_cleared() -> None:
    observations = Observations()
    observations.add(torch.rand(3, 2))
    assert len(observations) == 3
    observations.clear()
    assert len(observations) == 0


def test_samples_are_copies() -> None:
    observations = Observations()
    batch = torch.zeros(2, 2)
    observations.add(batch)
    batch += 1
    assert float(observations.stacked().sum()) == 0
