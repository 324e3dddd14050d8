"""The drawings as they lie in the file, and as they come out of it."""

import os
from pathlib import Path

import numpy as np
import pytest

from fedsim import data
from fedsim.data.omniglot import BACKGROUND, EVALUATION, TEST_PEOPLE, TRAINING_PEOPLE
from fedsim.data.partitions import partition
from fedsim.errors import DataError

FILE = "omniglot.npz"


@pytest.fixture(scope="module")
def folder() -> Path:
    found = Path(os.environ.get("FEDSIM_DATA") or "absent")
    if not (found / FILE).is_file():
        pytest.skip(f"{FILE} is absent: set FEDSIM_DATA to the folder that holds it")
    return found


@pytest.fixture(scope="module")
def omniglot(folder: Path) -> data.Dataset:
    return data.load("omniglot")


def test_the_split_is_by_people_and_never_changes() -> None:
    assert TEST_PEOPLE == (1, 8, 10, 18, 19)
    assert sorted(TEST_PEOPLE + TRAINING_PEOPLE) == list(range(20))
    assert list(BACKGROUND) + list(EVALUATION) == list(range(1623))
    assert (len(BACKGROUND), len(EVALUATION)) == (964, 659)


def test_every_character_has_fifteen_drawings_and_five_to_test(omniglot: data.Dataset) -> None:
    assert omniglot.classes == 1623
    assert omniglot.x_train.shape == (1623 * 15, 1, 28, 28)
    assert omniglot.x_test.shape == (1623 * 5, 1, 28, 28)
    assert np.bincount(omniglot.y_train).tolist() == [15] * 1623
    assert np.bincount(omniglot.y_test).tolist() == [5] * 1623
    assert 15 < omniglot.x_train.mean() < 25  # thin bright ink on black


def test_background_characters_are_first(omniglot: data.Dataset, folder: Path) -> None:
    with np.load(folder / FILE) as archive:
        evaluation = archive["alphabet_eval"][archive["alphabet"]]
    assert np.flatnonzero(~evaluation).tolist() == list(BACKGROUND)
    assert np.flatnonzero(evaluation).tolist() == list(EVALUATION)


def test_a_pixel_is_the_share_of_ink_on_its_area(omniglot: data.Dataset, folder: Path) -> None:
    with np.load(folder / FILE) as archive:
        packed = archive["packed"]
    for label, images, people in (
        (0, omniglot.x_train[:15], TRAINING_PEOPLE),
        (1622, omniglot.x_test[-5:], TEST_PEOPLE),
    ):
        for image, person in zip(images, people, strict=True):
            ink = np.unpackbits(packed[label, person], count=105 * 105).reshape(105, 105)
            fine = ink.repeat(4, 0).repeat(4, 1)  # 420 pixels: 15 for each of 28
            shares = fine.reshape(28, 15, 28, 15).mean((1, 3))
            assert np.array_equal(image[0], np.rint(shares * 255))


def test_every_person_of_every_alphabet_is_a_source(omniglot: data.Dataset) -> None:
    sources = omniglot.sources
    assert sources is not None
    assert len(np.unique(sources)) == 50 * 15
    assert set((sources % 20).tolist()) == set(TRAINING_PEOPLE)
    natural = partition(omniglot.y_train, "natural", 30, seed=0, sources=sources)
    for own in natural.indices:
        assert len(np.unique(sources[own])) == 1
        counts = np.bincount(omniglot.y_train[own])
        assert counts.max() == 1  # everybody drew a character of the alphabet once
    assert len(natural.indices[0]) == len(natural.indices[14])  # of one alphabet


@pytest.mark.parametrize(
    ("packed", "alphabet", "said"),
    [
        ((3, 20, 1379), (3,), r"packed \(3, 20, 1379\) and alphabet \(3,\), expected \(1623, 20, 1379\)"),
        ((1623, 20, 1379), (1622,), r"alphabet \(1622,\), expected"),
        ((1623, 20, 1379), (1623,), "1623 characters of the first 30 alphabets, expected 964"),
    ],
)
def test_a_file_of_something_else(
    packed: tuple[int, ...],
    alphabet: tuple[int, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    arrays = {"packed": np.zeros(packed, np.uint8), "alphabet": np.zeros(alphabet, np.uint8)}
    np.savez_compressed(tmp_path / FILE, **arrays)
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"data set 'omniglot': .*{said}"):
        data.load("omniglot")
