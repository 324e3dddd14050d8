"""scikit-learn's digits: 1,797 grey 8x8 images of handwritten digits. Ships with scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedsim.data.dataset import Source, stratified
from fedsim.data.tasks import INK, PARITY, by_name

__all__ = ["DIGITS"]

#: The split is part of the data set's definition: it has a seed of its own, whatever a scenario's is.
_SPLIT_SEED = 0
_TEST_FRACTION = 1 / 3


def _read() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """A third of each class is the test set. Grey values 0..16 become round(255 / 16 value)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (takes a second to import)

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    train, test = stratified(labels, _TEST_FRACTION, _SPLIT_SEED)
    return pixels[train], labels[train], pixels[test], labels[test]


#: Alpaydin, Kaynak: "Optical Recognition of Handwritten Digits", UCI repository, 1998 (its test part).
DIGITS = Source(
    "digits",
    "1,797 grey 8x8 images; ships with scikit-learn.",
    (1, 8, 8),
    10,
    599,
    _read,
    by_name(PARITY, INK),
)
