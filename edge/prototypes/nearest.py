"""Classification by the nearest prototype: all that a device needs of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.prototypes.statistics import ClassStatistics, StatisticsError

__all__ = ["Prototypes"]

_CHUNK_VALUES = 1 << 24  # distances that are held at once


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Prototypes, one or several a class; a class without one cannot be predicted.

    Args:
        classes: class of each prototype, int64 [R], at least one.
        vectors: float32 [R, d].

    Raises:
        StatisticsError: no prototype, or arrays that do not fit.
    """

    classes: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.classes.shape != self.vectors.shape[:1]:
            shapes = f"classes {list(self.classes.shape)}, vectors {list(self.vectors.shape)}"
            raise StatisticsError(f"{shapes}; expected [R], [R, d]")
        if not len(self.classes):
            raise StatisticsError("there is no prototype yet")

    @classmethod
    def of(cls, statistics: ClassStatistics) -> Prototypes:
        """The means.

        Raises:
            StatisticsError: statistics of no samples.
        """
        return cls(statistics.classes, statistics.means.astype(np.float32))

    def of_classes(self, classes: ArrayLike) -> Prototypes:
        """The prototypes of these classes alone.

        Raises:
            StatisticsError: there is none.
        """
        kept = np.isin(self.classes, np.asarray(classes, dtype=np.int64))
        return Prototypes(self.classes[kept], self.vectors[kept])

    def nearest(self, features: ArrayLike) -> NDArray[np.int64]:
        """The class whose prototype is nearest by Euclidean distance; of equal ones the first.

        ``argmin_r |p_r|^2 / 2 - x p_r``, which leaves out what all distances of a sample have in common.

        Args:
            features: [n, d].

        Returns:
            int64 [n].

        Raises:
            StatisticsError: features of another dimension.
        """
        values = np.asarray(features, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != self.vectors.shape[1]:
            expected = f"[n, {self.vectors.shape[1]}]"
            raise StatisticsError(f"features are {list(values.shape)}, expected {expected}")
        centre = self.vectors.mean(0, dtype=np.float64).astype(np.float32)  # far from zero, squares are large
        vectors, found = self.vectors - centre, np.empty(len(values), dtype=np.int64)
        halves = (vectors.astype(np.float64) ** 2).sum(1) / 2
        step = max(1, _CHUNK_VALUES // len(vectors))
        for start in range(0, len(values), step):
            part = values[start : start + step] - centre
            found[start : start + step] = (halves - part @ vectors.T).argmin(1)
        return self.classes[found]
