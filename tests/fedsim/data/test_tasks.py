import numpy as np
import pytest

from fedsim import data
from fedsim.data import Dataset
from fedsim.errors import DataError

TASKS = [(source, name) for source in data.available() for name in data.find(source).tasks]


@pytest.mark.parametrize(("source", "name"), TASKS)
def test_labels_are_what_the_task_says(source: str, name: str) -> None:
    found = data.find(source)
    task = found.tasks[name]
    assert task.name == name
    images = np.random.default_rng(0).integers(0, 256, (20, *found.image_shape), dtype=np.uint8)
    labels = task.labels(images, np.arange(20, dtype=np.int64) % found.classes)
    assert labels.shape == (20,)
    if task.kind == "classification":
        assert labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(task.outputs))
    else:
        assert labels.dtype == np.float32
        assert task.outputs == 1
        np.testing.assert_allclose(labels, images.mean((1, 2, 3)) / 255, rtol=1e-6)


def test_groups_of_classes() -> None:
    def grouped(source: str, name: str) -> list[int]:
        task, classes = data.find(source).tasks[name], np.arange(10, dtype=np.int64)
        return [int(label) for label in task.labels(np.zeros((10, 1, 1, 1), np.uint8), classes)]

    assert grouped("digits", "parity") == [0, 1] * 5
    assert grouped("fashion-mnist", "kind") == [0, 1, 0, 2, 0, 3, 0, 3, 4, 3]
    assert grouped("cifar10", "animal") == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


def test_a_data_set_knows_its_tasks_by_name() -> None:
    digits = data.load("digits")
    assert digits.task("parity") is digits.tasks["parity"]
    with pytest.raises(DataError, match="'digits' has no task 'kind'; known are parity, ink"):
        digits.task("kind")
    bare = Dataset("bare", 10, digits.x_train, digits.y_train, digits.x_test, digits.y_test)
    with pytest.raises(DataError, match="'bare' has no task 'ink'; known are none"):
        bare.task("ink")
