"""Class statistics of all clients at once, of features that one pass of a frozen encoder has made."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.prototypes import ClassStatistics, StatisticsError

__all__ = ["fleet_statistics"]

_MOST = 1 << 31  # classes, slots and clients
_SHORT = 32  # samples of a class of a client
_WORDS = {"owners": "client", "labels": "class", "slots": "slot"}


def fleet_statistics(
    features: ArrayLike,
    labels: ArrayLike,
    owners: ArrayLike,
    clients: int,
    slots: ArrayLike | None = None,
    *,
    squares: bool = False,
) -> list[ClassStatistics]:
    """Count the samples of every client.

    One sort of the samples by client, class and slot, and one sum over each run of equal ones, where
    counting client by client pays Python's overhead for each. They are those of
    :meth:`edge.prototypes.ClassStatistics.of`; sums but for the rounding of float64.

    Args:
        features: [n, d].
        labels: class of each sample, integers [n].
        owners: client of each sample, integers [n].
        clients: how many there are; more than 2^31 cannot be.
        slots: slot of each sample in its class, integers [n]; 0 by default.
        squares: sum the squares as well.

    Returns:
        of each client, in order; of one without samples, no rows. Their arrays are views of common ones.

    Raises:
        StatisticsError: shapes that do not fit, features that are not finite, clients, classes or slots out
            of range.

    >>> first, second = fleet_statistics([[1.0], [5.0], [3.0]], labels=[7, 7, 7], owners=[0, 1, 0], clients=2)
    >>> first.means.tolist(), second.means.tolist()
    ([[2.0]], [[5.0]])
    """
    values = np.asarray(features, dtype=np.float64)
    if not 0 <= clients <= _MOST:
        raise StatisticsError(f"{clients} clients, allowed are 0 to {_MOST}")
    keys = {"owners": np.asarray(owners), "labels": np.asarray(labels)}
    if slots is not None:
        keys["slots"] = np.asarray(slots)
    if values.ndim != 2 or any(key.shape != values.shape[:1] for key in keys.values()):
        found = ", ".join(f"{name} {list(key.shape)}" for name, key in keys.items())
        raise StatisticsError(f"features {list(values.shape)}, {found}; expected [n, d] and [n] each")
    for name, key in keys.items():
        _check(name, key, clients if name == "owners" else _MOST)
    order, starts = _runs([key.astype(np.int64) for key in keys.values()])
    rows = order[starts]  # the first sample of each row
    counts = np.diff(starts, append=len(order))
    of_rows = {name: key[rows].astype(np.int64) for name, key in keys.items()}
    owner_of, class_of = of_rows["owners"], of_rows["labels"]
    slot_of = of_rows.get("slots", np.zeros_like(class_of))
    values = values[order]
    sums = _sums(values, starts, counts)
    squared = _sums(values**2, starts, counts) if squares else None
    for name, found_ in (("sums", sums), ("squares", squared)):
        if found_ is not None and not np.isfinite(found_).all():
            row = int(np.flatnonzero(~np.isfinite(found_).all(1))[0])
            raise StatisticsError(f"{name} of class {class_of[row]} of client {owner_of[row]} are not finite")
    bounds = np.searchsorted(owner_of, np.arange(clients + 1)).tolist()
    return [
        ClassStatistics.unchecked(
            class_of[start:end],
            slot_of[start:end],
            counts[start:end],
            sums[start:end],
            None if squared is None else squared[start:end],
        )
        for start, end in pairwise(bounds)
    ]


def _check(name: str, key: NDArray[Any], end: int) -> None:
    """See that keys are whole numbers from 0 to below ``end``."""
    if not key.size:
        return
    if not np.issubdtype(key.dtype, np.integer):
        raise StatisticsError(f"{name} are {key.dtype}, expected integers")
    low, high = int(key.min()), int(key.max())
    if low < 0 or high >= end:
        raise StatisticsError(f"{_WORDS[name]} {low if low < 0 else high}, allowed are 0 to {end - 1}")


def _runs(keys: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order that sorts samples by these keys, the first above all, and where runs of equal ones begin."""
    order: NDArray[np.int64] = np.lexsort(keys[::-1])
    changes = np.zeros(len(order), dtype=bool)
    changes[:1] = True
    for key in keys:
        sorted_ = key[order]
        changes[1:] |= sorted_[1:] != sorted_[:-1]
    return order, np.flatnonzero(changes)


def _sums(
    values: NDArray[np.float64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums of runs of rows, each in the order of its rows.

    Ten times faster than ``np.add.reduceat``, which is made for long runs: here the second rows of all
    short runs are added at once, then the third ones, and so on.
    """
    sums = values[starts]
    for run in np.flatnonzero(counts > _SHORT).tolist():
        sums[run] = values[starts[run] : starts[run] + counts[run]].sum(0)
    place, open_ = 1, np.flatnonzero((counts > 1) & (counts <= _SHORT))
    while len(open_):
        sums[open_] += values[starts[open_] + place]
        place += 1
        open_ = open_[counts[open_] > place]
    return sums
