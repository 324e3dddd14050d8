"""The Pareto front: what nothing else beats in every respect."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["efficient"]


def efficient(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """Which of the cost vectors lie on the Pareto front.

    One does where no other is as low in every cost and lower in one. Equal vectors do or do not
    together. Of a benefit, such as accuracy, the cost is its negative.
    """
    return [not any(_beats(other, cost) for other in costs) for cost in costs]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
