"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn once by 20 people.

The first 964 classes are the characters of the 30 background alphabets, on which an embedding is trained;
the other 659 are those of the 20 evaluation alphabets, which nothing may be trained or chosen on.

People are the natural sources. Those of one alphabet drew all of its characters; whether somebody drew
several alphabets is not known, so that there are 50 times 20 sources. The split is by people as well: of
each alphabet the same 15 are the training set (:data:`TRAINING_PEOPLE`) and the same 5 the test set
(:data:`TEST_PEOPLE`), so that every character has 15 drawings to learn it from and 5 to test it with, by
hands that the training set of its alphabet has never seen. Of the background characters, too: an embedding
that had been trained on all 20 drawings of them would have no test left that tells what it forgets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedsim.data.dataset import Arrays, Source
from fedsim.data.files import VARIABLE, arrays
from fedsim.errors import DataError

__all__ = ["BACKGROUND", "EVALUATION", "OMNIGLOT", "TEST_PEOPLE", "TRAINING_PEOPLE"]

#: Classes of the background alphabets.
BACKGROUND = range(964)
#: Classes of the evaluation alphabets.
EVALUATION = range(964, 1623)

_CHARACTERS, _PEOPLE = len(BACKGROUND) + len(EVALUATION), 20
_BACKGROUND_ALPHABETS = 30
_DRAWN, _SIDE = 105, 28  # pixels
_CHUNK = 64  # characters that are unpacked at once

#: The split is part of the data set's definition: it has a seed of its own, whatever a scenario's is.
_SPLIT_SEED = 0
_TESTED = 5
_ORDER = np.random.RandomState(_SPLIT_SEED).permutation(_PEOPLE)
#: Numbers of the people of an alphabet whose drawings are the test set, 0 to 19.
TEST_PEOPLE = tuple(sorted(_ORDER[:_TESTED].tolist()))
#: Numbers of those whose drawings are the training set.
TRAINING_PEOPLE = tuple(sorted(_ORDER[_TESTED:].tolist()))


def _read() -> Arrays:
    """``packed`` [1623, 20, 1379], a bit a pixel, 1 for ink; ``alphabet`` [1623], from 0 and ascending."""
    packed, alphabet = arrays("omniglot", "omniglot.npz", "packed", "alphabet")
    expected = (_CHARACTERS, _PEOPLE, -(-(_DRAWN**2) // 8))
    if packed.shape != expected or alphabet.shape != expected[:1]:
        shapes = f"packed {packed.shape} and alphabet {alphabet.shape}"
        raise DataError(f"data set 'omniglot': {shapes}, expected {expected} and {expected[:1]}")
    owners = alphabet.astype(np.int64)
    of_background = int((owners < _BACKGROUND_ALPHABETS).sum())
    if (np.diff(owners) < 0).any() or of_background != len(BACKGROUND):
        said = f"{of_background} characters of the first {_BACKGROUND_ALPHABETS} alphabets"
        raise DataError(
            f"data set 'omniglot': {said}, expected {len(BACKGROUND)}, and all in ascending order"
        )
    images = np.concatenate([_drawn(packed[at : at + _CHUNK]) for at in range(0, _CHARACTERS, _CHUNK)])
    parts = []
    for people in (TRAINING_PEOPLE, TEST_PEOPLE):
        labels = np.repeat(np.arange(_CHARACTERS, dtype=np.int64), len(people))
        parts += [images[:, people].reshape(-1, 1, _SIDE, _SIDE), labels]
    x_train, y_train, x_test, y_test = parts
    sources = owners[:, None] * _PEOPLE + np.array(TRAINING_PEOPLE)
    return x_train, y_train, x_test, y_test, sources.reshape(-1)


def _drawn(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey drawings [n, 20, 28, 28] of packed ones [n, 20, 1379]: the share of ink of each pixel's area."""
    ink = np.unpackbits(packed, axis=-1, count=_DRAWN**2).reshape(*packed.shape[:2], _DRAWN, _DRAWN)
    areas = _areas()
    covered = areas @ ink.astype(np.float32) @ areas.T  # whole numbers, of at most _DRAWN ** 2
    grey: NDArray[np.uint8] = np.rint(covered * (255 / _DRAWN**2)).astype(np.uint8)
    return grey


def _areas() -> NDArray[np.float32]:
    """How much of each old pixel lies in each new one, float32 [28, 105], in units of a 28th."""
    old, new = np.arange(_DRAWN) * _SIDE, np.arange(_SIDE)[:, None] * _DRAWN
    shared = np.minimum(old + _SIDE, new + _DRAWN) - np.maximum(old, new)
    areas: NDArray[np.float32] = shared.clip(0).astype(np.float32)
    return areas


#: Lake, Salakhutdinov, Tenenbaum: "Human-level concept learning through probabilistic program induction",
#: Science 350, 2015.
OMNIGLOT = Source(
    "omniglot",
    f"32,460 grey 28x28 drawings of 1,623 characters; omniglot.npz in ${VARIABLE}.",
    (1, _SIDE, _SIDE),
    _CHARACTERS,
    _CHARACTERS * _TESTED,
    _read,
)
