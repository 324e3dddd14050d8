"""Whose samples are due when, and what they are in the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedsim.engines.plan import GroupPlan
from fedsim.errors import SimulationError
from fedsim.simulator.availability import present

__all__ = ["Calls", "calls", "frame_bytes", "rows_of"]

_MOST = 5_000_000  # inferences of one method
_AT_ONCE = 1024  # pauses that are drawn


@dataclass(frozen=True, eq=False)
class Calls:
    """What one device is to do.

    Args:
        client: its name.
        group: number of its group.
        numbers: of its samples, [samples], in their order.
        at_s: times at which they are due, or pauses ahead of them, [samples].
        paused: whether they are pauses.
    """

    client: str
    group: int
    numbers: NDArray[np.int64]
    at_s: NDArray[np.float64]
    paused: bool


def calls(
    groups: Sequence[GroupPlan],
    samples: int,
    seed: int,
    duration_s: float | None = None,
    shortest_s: Sequence[tuple[float, float]] = (),
) -> list[Calls]:
    """The devices of a fleet, group by group.

    Device i of n takes every n-th sample from its own number on; behind the last of the data their numbers go
    on, and stand for its samples once more (:func:`rows_of`). What is due while a device is away is left
    out.

    Args:
        groups: the fleet.
        samples: of the data.
        seed: each device draws its own from it, as one in wall time does.
        duration_s: how long the fleet works; None until it has been through the data once.
        shortest_s: by group, what a sample takes at least, and what of that no other sample of the device can
            use: devices that wait for their answers do not need more samples than there is time for.

    Raises:
        SimulationError: more than five million samples, or fewer arrivals than a device has samples.
    """
    devices = sum(group.count for group in groups)
    numbered = list(_numbered(groups))
    found = []
    total = 0
    for number, (place, group) in enumerate(numbered):
        generator = np.random.default_rng([seed, number])
        if duration_s is None:
            most = len(range(number, samples, devices))
            at_s = group.arrivals.times(generator, np.inf, most)
            if len(at_s) < most:
                message = f"device-{number}: {len(at_s)} samples are due of the {most} that it has"
                raise SimulationError(f"{message}; give the run a duration_s")
        elif group.arrivals.paused:
            at_s = _pauses(group, generator, duration_s, *shortest_s[place])
        else:
            at_s = group.arrivals.times(generator, duration_s)
        total += len(at_s)
        if total > _MOST:
            message = f"a method has more than {_MOST:,} inferences"
            raise SimulationError(f"{message}; shorten duration_s, or have fewer devices or arrivals")
        numbers = number + devices * np.arange(len(at_s), dtype=np.int64)
        if group.availability is not None and len(at_s):
            until = duration_s if duration_s is not None else float(at_s[-1]) + 1.0
            spans = group.availability.spans(np.random.default_rng([seed, number, 1]), until)
            there = present(spans, at_s)
            numbers, at_s = numbers[there], at_s[there]
        found.append(Calls(f"device-{number}", place, numbers, at_s, group.arrivals.paused))
    return found


def _pauses(
    group: GroupPlan, generator: np.random.Generator, duration_s: float, shortest_s: float, alone_s: float
) -> NDArray[np.float64]:
    """As many as a device may need: one more for each sample that may be without an answer at the end.

    Each of ``in_flight`` places is taken for a pause and a sample, again and again, and one sample has what
    no other can use meanwhile.
    """
    most = min(duration_s / max(alone_s, 1e-9), _MOST) + group.in_flight + 1
    found, count, taken_s = [], 0, 0.0
    while count < most and taken_s <= group.in_flight * duration_s:
        part = group.arrivals.times(generator, duration_s, min(int(most), max(count, _AT_ONCE)))
        found.append(part)
        count += len(part)
        taken_s += float(part.sum()) + shortest_s * len(part)
    pauses = np.concatenate(found)
    taken = np.cumsum(pauses + shortest_s)
    needed = int(np.searchsorted(taken, group.in_flight * duration_s)) + group.in_flight + 1
    return pauses[: min(needed, int(most))]


def rows_of(numbers: NDArray[np.int64], samples: int, seed: int) -> NDArray[np.int64]:
    """Which sample of the data each number stands for: itself, or one in another order in later rounds.

    Args:
        numbers: any shape, 0 and more.
        samples: of the data.
        seed: of the orders.
    """
    turn, place = np.divmod(numbers.ravel(), samples)
    rows = place.copy()
    by_turn = np.argsort(turn, kind="stable")
    turns, first = np.unique(turn[by_turn], return_index=True)
    for one, chosen in zip(turns, np.split(by_turn, first)[1:], strict=True):
        if one > 0:
            rows[chosen] = np.random.default_rng([seed, int(one), 2]).permutation(samples)[place[chosen]]
    return rows.reshape(numbers.shape)


def frame_bytes(numbers: NDArray[np.int64], rows: ArrayLike, made: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes of messages, whose numbers are longer than those of the samples that they are like.

    Args:
        numbers: of the samples, [samples].
        rows: of the data that they stand for, [samples]; they are numbered so.
        made: bytes of the messages of these, [samples]; 0 where nothing is sent.
    """
    longer = _number_bytes(numbers) - _number_bytes(np.asarray(rows))
    return np.where(made > 0, made + longer, 0)


def _numbered(groups: Sequence[GroupPlan]) -> Iterator[tuple[int, GroupPlan]]:
    for place, group in enumerate(groups):
        for _ in range(group.count):
            yield place, group


def _number_bytes(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of a uint32 field in a message: a tag, and 7 bits in each byte; nothing for 0."""
    length = 1 + sum((numbers >= 1 << bits).astype(np.int64) for bits in (0, 7, 14, 21, 28))
    return np.where(numbers > 0, length, 0)
