"""The Pareto front of points in any number of costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["on_front"]


def on_front(costs: ArrayLike) -> NDArray[np.bool_]:
    """Which points lie on the Pareto front: no other is as low in every cost, and lower in one.

    Equal points do or do not together. A point of which a cost is not known (NaN) does not, and keeps no
    other from it.

    Points go in the order of their costs, the first cost counting most: what beats a point then stands ahead
    of it, so that each point of the front removes, at one stroke, all behind it that it beats.

    Args:
        costs: [points, costs].

    Returns:
        [points].

    Raises:
        ValueError: costs of another shape.
    """
    table = np.asarray(costs, np.float64)
    if table.ndim != 2 or (len(table) and not table.shape[1]):
        raise ValueError(f"costs have the shape {list(table.shape)}, expected [points, costs]")
    found = np.zeros(len(table), np.bool_)
    left = np.flatnonzero(~np.isnan(table).any(1))
    left = left[np.lexsort(table[left].T[::-1])]
    while len(left):
        best = table[left[0]]
        found[left[0]] = True
        rest = left[1:]
        beaten = (best <= table[rest]).all(1) & (best < table[rest]).any(1)
        left = rest[~beaten]
    return found
