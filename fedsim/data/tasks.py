"""Other tasks on the images of a data set, for second tails behind one encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ANIMAL", "BRIGHTNESS", "INK", "KIND", "PARITY", "Task", "by_name"]

Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """Something else to tell of an image than its class.

    Args:
        name: as in a scenario.
        title: one line for people.
        kind: ``classification`` into 0 .. outputs - 1, or ``regression`` of one number.
        outputs: length of the tail's output: the classes, or 1.
        labels: from images uint8 [N, C, H, W] and their classes int64 [N] to the labels of this task,
            int64 or float32 [N].
    """

    name: str
    title: str
    kind: Literal["classification", "regression"]
    outputs: int
    labels: Callable[[NDArray[np.uint8], NDArray[np.int64]], Labels]


def by_name(*tasks: Task) -> Mapping[str, Task]:
    """The tasks of a data set, each by its name."""
    return {task.name: task for task in tasks}


def _grouped(name: str, title: str, groups: Sequence[Sequence[int]]) -> Task:
    """Groups of classes as the new classes."""
    group_of = np.zeros(sum(map(len, groups)), dtype=np.int64)
    for group, members in enumerate(groups):
        group_of[list(members)] = group
    return Task(name, title, "classification", len(groups), lambda _, classes: group_of[classes])


def _mean_pixel(images: NDArray[np.uint8], _: NDArray[np.int64]) -> NDArray[np.float32]:
    means: NDArray[np.float64] = images.reshape(len(images), -1).mean(1, dtype=np.float64) / 255
    return means.astype(np.float32)


#: Of digits.
PARITY = _grouped("parity", "Even or odd digit.", [range(0, 10, 2), range(1, 10, 2)])
#: Of bright drawings on black.
INK = Task("ink", "Mean pixel value, 0 to 1.", "regression", 1, _mean_pixel)
#: Of photographs.
BRIGHTNESS = Task("brightness", "Mean value of pixels and channels, 0 to 1.", "regression", 1, _mean_pixel)
#: Of Fashion-MNIST: T-shirt, pullover, coat, shirt; trousers; dress; sandal, sneaker, boot; bag.
KIND = _grouped("kind", "Top, trousers, dress, shoe or bag.", [[0, 2, 4, 6], [1], [3], [5, 7, 9], [8]])
#: Of CIFAR-10: aeroplane, car, ship, lorry; bird, cat, deer, dog, frog, horse.
ANIMAL = _grouped("animal", "Vehicle or animal.", [[0, 1, 8, 9], [2, 3, 4, 5, 6, 7]])
