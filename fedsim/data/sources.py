"""The data sets that a scenario can name."""

from __future__ import annotations

from fedsim.data.dataset import Dataset, Source, validation
from fedsim.data.digits import DIGITS
from fedsim.data.files import CIFAR10, FASHION_MNIST
from fedsim.data.omniglot import OMNIGLOT
from fedsim.errors import DataError

__all__ = ["available", "find", "load"]

_SOURCES = {source.name: source for source in (CIFAR10, DIGITS, FASHION_MNIST, OMNIGLOT)}


def available() -> dict[str, str]:
    """Every data set's name, with where it comes from."""
    return {name: source.origin for name, source in _SOURCES.items()}


def find(name: str) -> Source:
    """The source of a data set.

    Raises:
        DataError: unknown; lists the known ones.
    """
    if name not in _SOURCES:
        raise DataError(f"unknown data set {name!r}; known are {', '.join(_SOURCES)}")
    return _SOURCES[name]


def load(name: str, choosing: float | None = None) -> Dataset:
    """Read a data set into memory.

    Args:
        name: one of :func:`available`.
        choosing: share of the training set that takes the place of the test set, for the choice of models
            (:func:`fedsim.data.validation`).

    Raises:
        DataError: unknown, absent or damaged.
    """
    dataset = find(name).load()
    return dataset if choosing is None else validation(dataset, choosing)
