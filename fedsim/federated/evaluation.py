"""What a result is about: which predictor, which classes, which test set.

FedProto's public code predicts among a client's own classes only, FedTGP's and FedSA's by prototypes among
all, FedAvg's by a head on a global test set; numbers of one kind are no rivals of another's. So each result
carries all three::

    {prototypes, head} x {own, all classes} x {personal, global test}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from flwr.app import ConfigRecord
from numpy.typing import NDArray

from fedsim.errors import FederationError
from fedsim.federated.method import Predictor
from fedsim.federated.predictors import restricted

__all__ = ["Result", "evaluate", "from_record", "to_record"]

Scope = Literal["own", "all"]
Test = Literal["personal", "global"]


@dataclass(frozen=True)
class Result:
    """How often one client was right.

    Args:
        predictor: ``prototypes`` or ``head``.
        classes: among which it chose: those of its ``own`` samples, or ``all`` that there are.
        test: its ``personal`` test samples, or the ``global`` test set; where it chose among its own
            classes, those samples that are of them.
        right: samples told rightly.
        total: samples.
    """

    predictor: str
    classes: Scope
    test: Test
    right: int
    total: int

    @property
    def accuracy(self) -> float | None:
        """Share that was told rightly; None of no samples."""
        return self.right / self.total if self.total else None


def evaluate(
    predictors: Mapping[str, Predictor],
    own: NDArray[np.int64],
    tests: Mapping[Test, tuple[torch.Tensor, NDArray[np.int64]]],
) -> list[Result]:
    """Let every predictor tell every test set, among all classes and among the own ones.

    Args:
        predictors: by name.
        own: classes of the client's samples.
        tests: images uint8 [n, C, H, W] and labels int64 [n], by name.
    """
    results = []
    for name, predict in predictors.items():
        for test, (images, labels) in tests.items():
            scores = predict(images) if len(images) else torch.zeros(0, 1)
            mine = np.isin(labels, own)
            results.append(_counted(name, "all", test, scores, labels))
            if mine.any():
                found = restricted(scores[torch.from_numpy(mine)], own)
                results.append(_counted(name, "own", test, found, labels[mine]))
            else:
                results.append(Result(name, "own", test, 0, 0))
    return results


def _counted(
    predictor: str, classes: Scope, test: Test, scores: torch.Tensor, labels: NDArray[np.int64]
) -> Result:
    """Count; a sample for which nothing can be chosen is told wrongly."""
    if not len(labels):
        return Result(predictor, classes, test, 0, 0)
    best, chosen = scores.max(1)
    right = (chosen == torch.from_numpy(labels)) & torch.isfinite(best)
    return Result(predictor, classes, test, int(right.sum()), len(labels))


def to_record(results: Iterable[Result]) -> ConfigRecord:
    """As a record of a message."""
    return ConfigRecord({f"{r.predictor}/{r.classes}/{r.test}": [r.right, r.total] for r in results})


def from_record(record: ConfigRecord) -> list[Result]:
    """The results in a record of a message.

    Raises:
        FederationError: numbers that cannot be, or a name that is none.
    """
    results = []
    for key, value in record.items():
        words = key.split("/")
        if len(words) != 3 or words[1] not in {"own", "all"} or words[2] not in {"personal", "global"}:
            raise FederationError(f"a result called {key!r}")
        if not isinstance(value, list) or len(value) != 2 or not all(type(n) is int for n in value):
            raise FederationError(f"result {key!r} is {value!r}, expected two whole numbers")
        right, total = (int(number) for number in value)
        if not 0 <= right <= total:
            raise FederationError(f"result {key!r} has {right} right of {total}")
        results.append(Result(words[0], words[1], words[2], right, total))  # type: ignore[arg-type]
    return results
