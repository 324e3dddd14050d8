import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import data
from fedsim.data import Dataset, Source
from fedsim.data.dataset import stratified
from fedsim.errors import DataError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


@pytest.fixture
def real_files() -> Path:
    """The folder with the real files."""
    folder = Path(os.environ.get("FEDSIM_DATA") or "absent")
    for file in ("fashion_mnist.npz", "cifar10.npz"):
        if not (folder / file).is_file():
            pytest.skip(f"{file} is absent: set FEDSIM_DATA to the folder that holds it")
    return folder


def test_known_names_have_an_origin() -> None:
    assert list(data.available()) == ["cifar10", "digits", "fashion-mnist", "omniglot"]
    assert all(data.available().values())


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(DataError, match=r"'mnist'; known are cifar10, digits, fashion-mnist, omniglot"):
        data.load("mnist")


def test_digits_are_all_there_and_scaled(digits: Dataset) -> None:
    from sklearn.datasets import load_digits

    original, labels = load_digits(return_X_y=True)
    assert len(digits.x_train) + len(digits.x_test) == len(original) == 1797
    assert digits.image_shape == data.find("digits").image_shape == (1, 8, 8)
    # Every original image stands in exactly one of the two sets, with its label.
    ours = np.concatenate([digits.x_train, digits.x_test]).reshape(-1, 64)
    expected = np.array([[round(v * 255 / 16) for v in image] for image in original], dtype=np.uint8)
    with_label = np.concatenate([digits.y_train, digits.y_test])
    assert sorted(zip(map(bytes, ours), with_label, strict=True)) == sorted(
        zip(map(bytes, expected), labels, strict=True)
    )
    assert ours.min() == 0
    assert ours.max() == 255


def test_normalisation_of_digits_cnn_has_seen_no_test_image(digits: Dataset) -> None:
    from edge import backbones

    normalise = backbones.create("digits-cnn").get_submodule("normalise")
    values = digits.x_train / 255
    assert normalise.mean.item() == pytest.approx(values.mean(), abs=5e-5)
    assert normalise.std.item() == pytest.approx(values.std(), abs=5e-5)
    assert abs(np.concatenate([digits.x_train, digits.x_test]).mean() / 255 - values.mean()) > 2e-4


def test_digits_split_is_stratified_and_never_changes(digits: Dataset) -> None:
    counts = np.bincount(digits.y_test, minlength=10)
    total = counts + np.bincount(digits.y_train, minlength=10)
    assert counts.tolist() == [round(n / 3) for n in total]
    digest = hashlib.sha256(digits.x_test.tobytes() + digits.y_test.tobytes()).hexdigest()
    assert digest == "bbb82fde88f0ff102b5e636c82ba6059df7770e82ebefa6f3bde9593f9ce56bd"


def test_validation_takes_from_the_training_set_alone(digits: Dataset) -> None:
    split = data.validation(digits, 0.2, seed=3)
    together = np.concatenate([split.x_train, split.x_test])
    assert np.array_equal(np.sort(together, axis=0), np.sort(digits.x_train, axis=0))
    expected = [round(0.2 * n) for n in np.bincount(digits.y_train)]
    assert np.bincount(split.y_test).tolist() == expected
    assert np.array_equal(data.validation(digits, 0.2, seed=3).x_test, split.x_test)
    assert not np.array_equal(data.validation(digits, 0.2, seed=4).x_test, split.x_test)


def test_validation_that_would_leave_nothing(digits: Dataset) -> None:
    with pytest.raises(DataError, match=r"'digits': a validation share of 1e-06 leaves 1198 and 0 images"):
        data.load("digits", 1e-6)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_validation_refuses_a_fraction_out_of_bounds(digits: Dataset, fraction: float) -> None:
    with pytest.raises(ValueError, match="more than 0 and less than 1"):
        data.validation(digits, fraction, seed=0)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_stratified_is_a_partition(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array(labels, dtype=np.int64)
    rest, part = stratified(array, fraction, seed)
    assert sorted([*rest, *part]) == list(range(len(labels)))
    for label in set(labels):
        assert np.sum(array[part] == label) == round(fraction * labels.count(label))


def test_fashion_mnist(real_files: Path) -> None:
    dataset = data.load("fashion-mnist")
    assert dataset.x_train.shape == (60000, 1, 28, 28)
    assert dataset.x_test.shape == (10000, 1, 28, 28)
    assert np.bincount(dataset.y_test).tolist() == [1000] * 10
    assert dataset.y_train[:5].tolist() == [9, 0, 0, 3, 0]  # as published


@pytest.mark.slow  # half a minute to unpack
def test_cifar10(real_files: Path) -> None:
    dataset = data.load("cifar10")
    assert dataset.x_train.shape == (50000, 3, 32, 32)
    assert dataset.x_test.shape == (10000, 3, 32, 32)
    assert np.bincount(dataset.y_train).tolist() == [5000] * 10
    # Channel means and deviations of the training set, as everybody publishes them.
    sample = dataset.x_train.astype(np.float32) / 255
    assert sample.mean((0, 2, 3)) == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-4)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "omniglot"])
def test_absent_folder_says_what_to_set(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = f"{name.replace('-', '_')}.npz"
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    with pytest.raises(DataError, match=rf"'{name}': set FEDSIM_DATA to the folder that holds {file}"):
        data.load(name)
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"'{name}': set FEDSIM_DATA .* {file}; .*{tmp_path.name} does not"):
        data.load(name)


def _fashion(folder: Path, **changes: np.ndarray) -> None:
    arrays = {
        "x_train": np.zeros((4, 28, 28), np.uint8),
        "y_train": np.array([0, 1, 2, 9], np.uint8),
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "y_test": np.array([0, 9], np.uint8),
    }
    np.savez_compressed(folder / "fashion_mnist.npz", **(arrays | changes))


def test_files_in_the_layout_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    _fashion(tmp_path)
    assert data.load("fashion-mnist").y_train.tolist() == [0, 1, 2, 9]


def test_cifar_differences_are_undone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    planes = images.copy()
    planes[:, 0] -= images[:, 1]
    planes[:, 2] -= images[:, 1]
    differences = np.diff(planes, axis=-1, prepend=np.uint8(0))
    differences = np.diff(differences, axis=-2, prepend=np.uint8(0))
    labels = np.arange(6, dtype=np.uint8)
    arrays = {"xd_train": differences, "y_train": labels, "xd_test": differences[:2], "y_test": labels[:2]}
    np.savez_compressed(tmp_path / "cifar10.npz", **arrays)
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    dataset = data.load("cifar10")
    assert np.array_equal(dataset.x_train, images)
    assert np.array_equal(dataset.x_test, images[:2])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_train": np.array([0, 1, 2, 10], np.uint8)}, "training labels are 0 to 10 of 10 classes"),
        ({"y_test": np.array([0], np.uint8)}, r"test labels are int64 \(1,\) for 2 images"),
        ({"x_train": np.zeros((4, 28, 28), np.float32)}, "x_train .* is float32, expected uint8"),
        ({"x_test": np.zeros((2, 27, 28), np.uint8)}, r"test images are uint8 \(2, 1, 27, 28\)"),
        ({"x_train": np.zeros((4, 9, 9), np.uint8), "x_test": np.zeros((2, 9, 9), np.uint8)}, "expected"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    changes: dict[str, np.ndarray], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    _fashion(tmp_path, **changes)
    with pytest.raises(DataError, match=said):
        data.load("fashion-mnist")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_damaged_file_is_named(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cifar10.npz").write_bytes(content)
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"'cifar10': .*cifar10\.npz cannot be read"):
        data.load("cifar10")


def test_truncated_archive_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _fashion(tmp_path)
    path = tmp_path / "fashion_mnist.npz"
    whole = bytearray(path.read_bytes())
    whole[200:260] = bytes(60)  # inside the first array's compressed data
    path.write_bytes(bytes(whole))
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(DataError, match="cannot be read"):
        data.load("fashion-mnist")


def test_missing_array_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", y_train=np.zeros(1, np.uint8))
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(DataError, match="lacks xd_train, xd_test, y_test; expected are xd_train"):
        data.load("cifar10")


def test_sources_are_those_of_the_training_images(digits: Dataset) -> None:
    assert digits.sources is None
    sources = np.arange(len(digits.x_train))
    known = replace(digits, sources=sources)
    split = data.validation(known, 0.2, seed=3)
    assert split.sources is not None
    assert np.array_equal(digits.x_train[split.sources], split.x_train)
    with pytest.raises(DataError, match=r"'digits': the training sources are int64 \(5,\) for 1198 images"):
        replace(digits, sources=sources[:5])
    with pytest.raises(DataError, match=r"training sources are float64 \(1198,\)"):
        replace(digits, sources=sources / 2)


def test_source_checks_its_own_promise() -> None:
    images, labels = np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int64)
    source = Source("own", "made here", (1, 8, 8), 1, None, lambda: (images, labels, images, labels))
    with pytest.raises(DataError, match=r"images of shape \(1, 4, 4\), expected \(1, 8, 8\)"):
        source.load()
    source = Source("own", "made here", (1, 4, 4), 1, 3, lambda: (images, labels, images, labels))
    with pytest.raises(DataError, match="2 test images, expected 3"):
        source.load()
