"""Class statistics: how many samples of each class, and the sum of their features.

They are of local data alone, so merging is addition: exact, in any order and any partition of the
samples, and it can be undone. A mean that has another's in it could not be merged again: samples would
count twice (as in the public code of Federated Reconnaissance, 63 % off at the second merge).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassStatistics", "StatisticsError"]

_MOST_CLASSES = 1 << 31


class StatisticsError(ValueError):
    """Class statistics that cannot be, or that do not fit each other."""


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Counts and sums, a row for each class; or several, where a class has several prototypes.

    A class that nobody has seen has no row: there is no zero vector that could be taken for a prototype.
    What tells the rows of one class apart is their slot, such as the number of a cluster centre that all
    who count have in common; 0 where there is one prototype a class.

    Args:
        classes: class of each row, int64 [R], 0 to 2^31 - 1.
        slots: slot of each row, int64 [R], 0 to 2^31 - 1. Rows ascend by class and slot, none twice.
        counts: samples, int64 [R], each at least 1.
        sums: of their features, float64 [R, d].
        squares: sums of the squares of their features, float64 [R, d]; None where they are not counted.

    Raises:
        StatisticsError: arrays that are none of this.
    """

    classes: NDArray[np.int64]
    slots: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        rows = len(self.classes)
        for name in ("classes", "slots", "counts"):
            values = getattr(self, name)
            if values.shape != (rows,) or values.dtype != np.int64:
                raise StatisticsError(
                    f"{name} are {values.dtype}{list(values.shape)}, expected int64[{rows}]"
                )
        for name in ("sums", "squares"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.ndim != 2 or len(values) != rows or values.dtype != np.float64:
                raise StatisticsError(
                    f"{name} are {values.dtype}{list(values.shape)}, expected float64[{rows}, d]"
                )
            if np.count_nonzero(np.isfinite(values)) < values.size:
                row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
                raise StatisticsError(f"{name} of class {self.classes[row]} are not finite")
        if self.squares is not None and self.squares.shape != self.sums.shape:
            raise StatisticsError(f"squares are {list(self.squares.shape)}, sums {list(self.sums.shape)}")
        self.check_rows()

    def check_rows(self) -> None:
        """What the constructor checks of classes, slots, counts and the signs of squares.

        Raises:
            StatisticsError: out of range, out of order, or twice.
        """
        if not len(self.classes) or self._plain():
            return
        for name, values in (("class", self.classes), ("slot", self.slots)):
            if values.min() < 0 or values.max() >= _MOST_CLASSES:
                wrong = values.min() if values.min() < 0 else values.max()
                raise StatisticsError(f"{name} {wrong}, allowed are 0 to {_MOST_CLASSES - 1}")
        if self.counts.min() < 1:
            row = int(self.counts.argmin())
            raise StatisticsError(
                f"class {self.classes[row]} has {self.counts[row]} samples, a row has 1 or more"
            )
        keys = _keys(self.classes, self.slots)
        if (steps := np.diff(keys)).size and steps.min() <= 0:
            row = int(np.flatnonzero(steps <= 0)[0]) + 1
            raise StatisticsError(f"class {self.classes[row]} stands out of order, or twice")
        if self.squares is not None and self.squares.size and self.squares.min() < 0:
            raise StatisticsError("a sum of squares is negative")

    def _plain(self) -> bool:
        """Whether the rows are as they mostly are, a class each and no squares, and nothing is wrong."""
        classes = self.classes
        return bool(
            self.squares is None
            and classes[0] >= 0
            and classes[-1] < _MOST_CLASSES
            and not np.count_nonzero(classes[1:] <= classes[:-1])
            and not np.count_nonzero(self.slots)
            and not np.count_nonzero(self.counts < 1)
        )

    # --- making -----------------------------------------------------------------------------

    @classmethod
    def unchecked(
        cls,
        classes: NDArray[np.int64],
        slots: NDArray[np.int64],
        counts: NDArray[np.int64],
        sums: NDArray[np.float64],
        squares: NDArray[np.float64] | None = None,
    ) -> ClassStatistics:
        """Of arrays that are known to be statistics: nobody looks at them again.

        For whoever makes those of a thousand clients at once; of anything that came from elsewhere, use
        the constructor.
        """
        made = object.__new__(cls)
        made.__dict__.update(classes=classes, slots=slots, counts=counts, sums=sums, squares=squares)
        return made

    @classmethod
    def empty(cls, dimension: int, *, squares: bool = False) -> ClassStatistics:
        """Of no samples, with features of this dimension."""
        none, nothing = np.zeros(0, np.int64), np.zeros((0, dimension))
        return cls(none, none, none, nothing, nothing if squares else None)

    @classmethod
    def of(
        cls, features: ArrayLike, labels: ArrayLike, slots: ArrayLike | None = None, *, squares: bool = False
    ) -> ClassStatistics:
        """Count samples.

        Args:
            features: [n, d].
            labels: class of each sample, integers [n].
            slots: slot of each sample in its class, integers [n]; 0 by default.
            squares: sum the squares as well.

        Raises:
            StatisticsError: shapes that do not fit, features that are not finite, classes out of range.
        """
        values = np.asarray(features, dtype=np.float64)
        owners = np.asarray(labels)
        within = np.zeros_like(owners) if slots is None else np.asarray(slots)
        if values.ndim != 2 or owners.shape != values.shape[:1] or within.shape != owners.shape:
            shapes = f"features {list(values.shape)}, labels {list(owners.shape)}, slots {list(within.shape)}"
            raise StatisticsError(f"{shapes}; expected [n, d], [n], [n]")
        for name, whole in (("labels", owners), ("slots", within)):
            if whole.size and not np.issubdtype(whole.dtype, np.integer):
                raise StatisticsError(f"{name} are {whole.dtype}, expected integers")
        rows = cls._rows_of(owners.astype(np.int64), within.astype(np.int64))
        order, starts, classes, slots_, counts = rows
        sums = _reduced(values[order], starts)
        return cls(classes, slots_, counts, sums, _reduced(values[order] ** 2, starts) if squares else None)

    @staticmethod
    def _rows_of(classes: NDArray[np.int64], slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """An order that brings equal rows together; where each begins; their classes, slots, and lengths."""
        keys = _keys(classes, slots)
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        starts = np.flatnonzero(np.diff(sorted_keys, prepend=sorted_keys[:1] - 1)) if len(keys) else order
        first = order[starts]
        return order, starts, classes[first], slots[first], np.diff(starts, append=len(keys))

    @classmethod
    def merged(cls, parts: Iterable[ClassStatistics]) -> ClassStatistics:
        """Of all samples of the parts: the sums of their rows.

        Raises:
            StatisticsError: no parts, other dimensions, or squares in some only.
        """
        found: Sequence[ClassStatistics] = list(parts)
        if not found:
            raise StatisticsError("there is nothing to merge")
        kinds = {(part.dimension, part.squares is not None) for part in found}
        if len(kinds) > 1:
            shown = ", ".join(f"{d}{' with squares' if s else ''}" for d, s in sorted(kinds))
            raise StatisticsError(f"statistics of different dimensions cannot be merged: {shown}")
        classes = np.concatenate([part.classes for part in found])
        slots = np.concatenate([part.slots for part in found])
        order, starts, classes, slots, _ = cls._rows_of(classes, slots)
        counts = np.concatenate([part.counts for part in found])
        sums = np.concatenate([part.sums for part in found])
        squares = [part.squares for part in found if part.squares is not None]
        return cls(
            classes,
            slots,
            _reduced(counts[order], starts),
            _reduced(sums[order], starts),
            _reduced(np.concatenate(squares)[order], starts) if squares else None,
        )

    def __add__(self, other: ClassStatistics) -> ClassStatistics:
        return ClassStatistics.merged([self, other])

    def __sub__(self, other: ClassStatistics) -> ClassStatistics:
        """Without the samples of ``other``, which had been merged into this: they are unlearned.

        A class without samples has no row any more.

        Raises:
            StatisticsError: samples that are not in this, other dimensions, or squares in one only.
        """
        if (self.dimension, self.squares is None) != (other.dimension, other.squares is None):
            raise StatisticsError("statistics of different dimensions cannot be subtracted")
        keys, taken = _keys(self.classes, self.slots), _keys(other.classes, other.slots)
        rows = np.searchsorted(keys, taken)
        known = rows < len(keys)
        known[known] = keys[rows[known]] == taken[known]
        if not known.all():
            raise StatisticsError(f"class {other.classes[~known][0]} is not there to be subtracted from")
        counts, sums = self.counts.copy(), self.sums.copy()
        counts[rows] -= other.counts
        if counts.size and counts.min() < 0:
            row = int(counts.argmin())
            few = f"class {self.classes[row]} has {self.counts[row]} samples"
            raise StatisticsError(f"{few}, and {other.counts[rows == row][0]} are to be subtracted")
        sums[rows] -= other.sums
        squares = None
        if self.squares is not None and other.squares is not None:
            squares = self.squares.copy()
            squares[rows] -= other.squares
            squares = squares.clip(0)[counts > 0]
        left = counts > 0
        return ClassStatistics(self.classes[left], self.slots[left], counts[left], sums[left], squares)

    # --- what they say ----------------------------------------------------------------------

    @property
    def dimension(self) -> int:
        """Of the features."""
        return int(self.sums.shape[1])

    def __len__(self) -> int:
        """Rows."""
        return len(self.classes)

    @property
    def known(self) -> NDArray[np.int64]:
        """The classes, each once, ascending."""
        return np.unique(self.classes)

    @property
    def means(self) -> NDArray[np.float64]:
        """The prototypes, float64 [R, d]."""
        return self.sums / self.counts[:, None]

    @property
    def variances(self) -> NDArray[np.float64]:
        """Of the features about their means, float64 [R, d], at least 0.

        Raises:
            StatisticsError: squares were not counted.
        """
        if self.squares is None:
            raise StatisticsError("squares were not counted, so there are no variances")
        variances: NDArray[np.float64] = self.squares / self.counts[:, None] - self.means**2
        return variances.clip(0)

    def of_classes(self, classes: ArrayLike) -> ClassStatistics:
        """The rows of these classes alone; of those that are not there, none."""
        kept = np.isin(self.classes, np.asarray(classes, dtype=np.int64))
        squares = None if self.squares is None else self.squares[kept]
        return ClassStatistics(
            self.classes[kept], self.slots[kept], self.counts[kept], self.sums[kept], squares
        )


def _keys(classes: NDArray[np.int64], slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number a row, in the order of class and slot."""
    return classes * _MOST_CLASSES + slots


def _reduced(values: NDArray, starts: NDArray[np.int64]) -> NDArray:  # type: ignore[type-arg]
    """Sums of the rows from each start to the next."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]
