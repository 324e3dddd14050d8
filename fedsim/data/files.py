"""Data sets that lie as ``.npz`` files in the folder that FEDSIM_DATA names."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsim.data.dataset import Source
from fedsim.data.tasks import ANIMAL, BRIGHTNESS, INK, KIND, by_name
from fedsim.errors import DataError

__all__ = ["CIFAR10", "FASHION_MNIST", "VARIABLE", "arrays"]

#: The environment variable that names the folder.
VARIABLE = "FEDSIM_DATA"

_Images = NDArray[np.uint8]
_Labels = NDArray[np.int64]


def arrays(name: str, file: str, *keys: str) -> list[NDArray[np.uint8]]:
    """The arrays ``keys`` of a file in the data folder.

    Args:
        name: of the data set, for messages.
        file: its file.
        keys: of the arrays, which are uint8.

    Raises:
        DataError: the folder is not named, the file is not there or cannot be read, an array is missing.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise DataError(f"data set {name!r}: set {VARIABLE} to the folder that holds {file}; it is not set")
    path = Path(folder) / file
    if not path.is_file():
        raise DataError(
            f"data set {name!r}: set {VARIABLE} to the folder that holds {file}; {folder} does not"
        )
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive]
            found = [archive[key] for key in keys if key not in missing]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"data set {name!r}: {path} cannot be read: {error}") from error
    if missing:
        raise DataError(
            f"data set {name!r}: {path} lacks {', '.join(missing)}; expected are {', '.join(keys)}"
        )
    for key, array in zip(keys, found, strict=True):
        if array.dtype != np.uint8:
            raise DataError(f"data set {name!r}: {key} of {path} is {array.dtype}, expected uint8")
    return found


def _read_fashion_mnist() -> tuple[_Images, _Labels, _Images, _Labels]:
    """``x_train``, ``y_train``, ``x_test``, ``y_test`` as they are: [N, 28, 28] and [N]."""
    keys = ("x_train", "y_train", "x_test", "y_test")
    x_train, y_train, x_test, y_test = arrays("fashion-mnist", "fashion_mnist.npz", *keys)
    return x_train[:, None], y_train.astype(np.int64), x_test[:, None], y_test.astype(np.int64)


def _read_cifar10() -> tuple[_Images, _Labels, _Images, _Labels]:
    """``xd_train``, ``y_train``, ``xd_test``, ``y_test``, the images [N, 3, 32, 32] as differences."""
    keys = ("xd_train", "y_train", "xd_test", "y_test")
    x_train, y_train, x_test, y_test = arrays("cifar10", "cifar10.npz", *keys)
    for key, array in (("xd_train", x_train), ("xd_test", x_test)):
        if array.ndim != 4 or array.shape[1] != 3:
            raise DataError(f"data set 'cifar10': {key} has shape {array.shape}, expected [N, 3, 32, 32]")
    return _summed(x_train), y_train.astype(np.int64), _summed(x_test), y_test.astype(np.int64)


def _summed(differences: _Images) -> _Images:
    """Images [N, 3, H, W] of the two-dimensional differences of (R-G, G, B-G), all modulo 256."""
    images = np.cumsum(np.cumsum(differences, -2, dtype=np.uint8), -1, dtype=np.uint8)
    images[:, 0] += images[:, 1]
    images[:, 2] += images[:, 1]
    return images


#: Xiao, Rasul, Vollgraf: "Fashion-MNIST", arXiv:1708.07747, 2017.
FASHION_MNIST = Source(
    "fashion-mnist",
    f"70,000 grey 28x28 images of clothing; fashion_mnist.npz in ${VARIABLE}.",
    (1, 28, 28),
    10,
    None,
    _read_fashion_mnist,
    by_name(KIND, INK),
)
#: Krizhevsky: "Learning Multiple Layers of Features from Tiny Images", 2009.
CIFAR10 = Source(
    "cifar10",
    f"60,000 colour 32x32 images; cifar10.npz in ${VARIABLE}.",
    (3, 32, 32),
    10,
    None,
    _read_cifar10,
    by_name(ANIMAL, BRIGHTNESS),
)
