"""What a data set is, and how it is split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedsim.data.tasks import Task
from fedsim.errors import DataError

__all__ = ["Arrays", "Dataset", "Source", "stratified", "validation"]

Indices = NDArray[np.int64]
_Images = NDArray[np.uint8]
_Labels = NDArray[np.int64]
#: x_train, y_train, x_test, y_test; and the source of each training image, where that is known.
Arrays = tuple[_Images, _Labels, _Images, _Labels] | tuple[_Images, _Labels, _Images, _Labels, _Labels]


@dataclass(frozen=True)
class Dataset:
    """Labelled images, with a test set that nothing is ever chosen on.

    Args:
        name: as in a scenario.
        classes: number of classes; labels are 0 to ``classes - 1``.
        x_train: uint8 [N, C, H, W].
        y_train: int64 [N].
        x_test: uint8 [M, C, H, W].
        y_test: int64 [M].
        tasks: other tasks on these images, by name.
        sources: where each training image naturally comes from, such as the person who drew it, int64 [N];
            None where that is not known.

    Raises:
        DataError: arrays that do not fit each other or this description.
    """

    name: str
    classes: int
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    tasks: Mapping[str, Task] = field(default_factory=dict)
    sources: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.x_train, self.y_train),
            ("test", self.x_test, self.y_test),
        ):
            if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1:] != self.x_train.shape[1:]:
                self._refuse(part, f"images are {images.dtype} {images.shape}, expected uint8 [N, C, H, W]")
            if labels.shape != images.shape[:1] or labels.dtype != np.int64 or not len(labels):
                self._refuse(part, f"labels are {labels.dtype} {labels.shape} for {len(images)} images")
            if labels.min() < 0 or labels.max() >= self.classes:
                self._refuse(part, f"labels are {labels.min()} to {labels.max()} of {self.classes} classes")
        known = self.sources
        if known is not None and (known.shape != self.y_train.shape or known.dtype != np.int64):
            self._refuse(
                "training", f"sources are {known.dtype} {known.shape} for {len(self.x_train)} images"
            )

    def _refuse(self, part: str, what: str) -> None:
        raise DataError(f"data set {self.name!r}: the {part} {what}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width

    def task(self, name: str) -> Task:
        """One of the tasks.

        Raises:
            DataError: unknown; lists the known ones.
        """
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none"
            raise DataError(f"data set {self.name!r} has no task {name!r}; known are {known}")
        return self.tasks[name]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and what is known of it before it is read.

    Args:
        name: as in a scenario.
        origin: one line for people.
        image_shape: (C, H, W) of an image.
        classes: number of classes.
        test_samples: size of the test set; None where it depends on a file.
        read: reads the arrays.
        tasks: other tasks on these images, by name.
    """

    name: str
    origin: str
    image_shape: tuple[int, int, int]
    classes: int
    test_samples: int | None
    read: Callable[[], Arrays]
    tasks: Mapping[str, Task] = field(default_factory=dict)

    def load(self) -> Dataset:
        """Read it.

        Raises:
            DataError: it is absent or damaged.
        """
        x_train, y_train, x_test, y_test, *sources = self.read()
        known = sources[0] if sources else None
        dataset = Dataset(self.name, self.classes, x_train, y_train, x_test, y_test, self.tasks, known)
        if dataset.image_shape != self.image_shape:
            raise DataError(
                f"data set {self.name!r}: images of shape {dataset.image_shape}, expected {self.image_shape}"
            )
        if self.test_samples not in {None, len(dataset.x_test)}:
            found, expected = len(dataset.x_test), self.test_samples
            raise DataError(f"data set {self.name!r}: {found} test images, expected {expected}")
        return dataset


def stratified(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Indices of the rest and of a random ``fraction`` of each class, rounded; both in ascending order.

    Drawn with NumPy's legacy generator, whose stream is promised never to change.
    """
    generator = np.random.RandomState(seed)
    drawn = [
        generator.permutation(members)[: round(fraction * len(members))]
        for members in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    part = np.sort(np.concatenate(drawn)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), part), part


def validation(dataset: Dataset, fraction: float, seed: int = 0) -> Dataset:
    """The data set for the choice of models: its test set is a part of the training set, which lacks it.

    Every class gives the same fraction. What was the test set has no part in it.

    Args:
        dataset: whose training set is split.
        fraction: share to choose by, more than 0 and less than 1.
        seed: 0 to 2**32 - 1; the same seed gives the same split.

    Raises:
        ValueError: a fraction out of bounds.
        DataError: a part that has no image.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}, allowed is more than 0 and less than 1")
    rest, chosen = stratified(dataset.y_train, fraction, seed)
    if not len(rest) or not len(chosen):
        shares = f"{len(rest)} and {len(chosen)} images"
        raise DataError(f"data set {dataset.name!r}: a validation share of {fraction} leaves {shares}")
    return replace(
        dataset,
        x_train=dataset.x_train[rest],
        y_train=dataset.y_train[rest],
        x_test=dataset.x_train[chosen],
        y_test=dataset.y_train[chosen],
        sources=None if dataset.sources is None else dataset.sources[rest],
    )
