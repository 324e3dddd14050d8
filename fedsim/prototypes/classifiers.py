"""Prototype classifiers: from class statistics to scores of classes, by name.

All take the same and give the same::

    features [n, d], statistics, classes  ->  scores float32 [n, classes]

Where a class has several prototypes, its best one counts. A class without statistics scores minus
infinity: nothing is known of it, and a zero vector in its place would be a prototype that attracts
samples. A sample whose features are not finite scores minus infinity everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from edge.prototypes import ClassStatistics, StatisticsError
from fedsim.errors import FederationError

__all__ = [
    "PrototypeClassifier",
    "available",
    "cosine",
    "euclidean",
    "find",
    "gaussian",
    "needs_squares",
    "register",
]

_CHUNK_VALUES = 1 << 22  # scores of rows that are held at once
_WORST = torch.finfo(torch.float32).min  # of a known class
_TINY = torch.finfo(torch.float64).tiny

#: Samples that the variance common to all classes is worth in the estimate of one class's.
PRIOR_SAMPLES = 10.0


class PrototypeClassifier(Protocol):
    """Scores of classes by their statistics."""

    def __call__(self, features: Tensor, statistics: ClassStatistics, classes: int) -> Tensor:
        """Score.

        Args:
            features: [n, d].
            statistics: of the classes that are known.
            classes: how many there may be.

        Returns:
            float32 [n, classes]; minus infinity for a class without statistics.

        Raises:
            StatisticsError: features of another dimension, or a class that there is not.
        """


_F = TypeVar("_F", bound=PrototypeClassifier)
_registered: dict[str, PrototypeClassifier] = {}
_squared: set[str] = set()


def register(name: str, *, squares: bool = False) -> Callable[[_F], _F]:
    """Make a classifier known by a name.

    Args:
        name: as in a scenario.
        squares: its statistics need sums of squares.

    Raises:
        ValueError: another one has that name already.
    """

    def decorate(classifier: _F) -> _F:
        if _registered.setdefault(name, classifier) is not classifier:
            raise ValueError(f"there is a prototype classifier {name!r} already")
        if squares:
            _squared.add(name)
        return classifier

    return decorate


def find(name: str) -> PrototypeClassifier:
    """The classifier ``name``.

    Raises:
        FederationError: unknown; lists the known ones.
    """
    if name not in _registered:
        known = ", ".join(sorted(_registered))
        raise FederationError(f"unknown prototype classifier {name!r}; known are {known}")
    return _registered[name]


def needs_squares(name: str) -> bool:
    """Whether the classifier ``name`` needs statistics with sums of squares.

    Raises:
        FederationError: unknown; lists the known ones.
    """
    find(name)
    return name in _squared


def available() -> dict[str, str]:
    """Every classifier's name, with the first line of its documentation."""
    return {name: (_registered[name].__doc__ or "").partition("\n")[0] for name in sorted(_registered)}


@register("euclidean")
def euclidean(features: Tensor, statistics: ClassStatistics, classes: int) -> Tensor:
    """Nearest mean by Euclidean distance: minus half its square.

    Prototypical Networks (Snell, Swersky, Zemel, NeurIPS 2017), Federated Reconnaissance.
    """
    means = torch.from_numpy(statistics.means)
    return _scores(features, statistics, classes, lambda points: -_half_squares(points, means))


@register("cosine")
def cosine(features: Tensor, statistics: ClassStatistics, classes: int) -> Tensor:
    """Nearest mean by cosine distance: minus it, from 0 at best to -2.

    Matching Networks (Vinyals et al., NeurIPS 2016). What has no direction, the zero vector, is at right
    angles to everything.
    """
    means = _directions(torch.from_numpy(statistics.means))
    return _scores(features, statistics, classes, lambda points: _directions(points) @ means.T - 1)


@register("gaussian", squares=True)
def gaussian(features: Tensor, statistics: ClassStatistics, classes: int) -> Tensor:
    """Likeliest class, each a Gaussian of its own width; needs the second moments.

    A radial basis function at each mean, with its norming factor:
    ``-|x - m_r|^2 / (2 v_r) - d/2 log v_r``. Classes are equally likely beforehand: how often a class has
    been met says nothing of the next sample.

    The width ``v_r`` is shrunk toward the one that all classes have in common (regularized discriminant
    analysis, Friedman, JASA 84, 1989)::

        v_r = (S_r + k v) / (n_r - 1 + k),   v = sum_r S_r / sum_r (n_r - 1)

    where ``S_r`` is the sum of squares about the mean of row r, averaged over the d features, and ``k`` is
    :data:`PRIOR_SAMPLES`. A class of one sample has the common width. Where no class has a width, all are
    alike, and the nearest mean wins.

    Second moments are about zero: of features that lie a hundred million widths away from it, float64 has
    no digits left for the width.

    Raises:
        StatisticsError: the squares were not counted.
    """
    means = torch.from_numpy(statistics.means)
    widths = torch.from_numpy(_widths(statistics))
    logarithms = means.shape[1] / 2 * widths.log()
    return _scores(
        features, statistics, classes, lambda points: -_half_squares(points, means) / widths - logarithms
    )


def _widths(statistics: ClassStatistics) -> np.ndarray:  # type: ignore[type-arg]
    """Variance of a feature in each row, shrunk; float64 [R], more than 0."""
    within = statistics.variances.mean(1) * statistics.counts
    spare = statistics.counts - 1
    # Of one sample, rounding may leave something.
    within[spare == 0] = 0
    common = within.sum() / max(1, spare.sum())
    if not common > 0:
        return np.ones(len(statistics))
    widths: np.ndarray = (within + PRIOR_SAMPLES * common) / (spare + PRIOR_SAMPLES)  # type: ignore[type-arg]
    return widths


def _scores(
    features: Tensor, statistics: ClassStatistics, classes: int, of_rows: Callable[[Tensor], Tensor]
) -> Tensor:
    """Scores of classes by those of the rows of their statistics.

    Args:
        features: [n, d].
        statistics: of the classes that are known.
        classes: how many there may be.
        of_rows: from points float64 [m, d] to scores of all rows, [m, R].
    """
    scores = torch.full((len(features), classes), -torch.inf)
    if not len(statistics):
        return scores
    if features.ndim != 2 or features.shape[1] != statistics.dimension:
        raise StatisticsError(f"features are {list(features.shape)}, expected [n, {statistics.dimension}]")
    if (last := int(statistics.classes[-1])) >= classes:
        raise StatisticsError(f"statistics of class {last}; there are classes 0 to {classes - 1}")
    owners = torch.from_numpy(statistics.classes)
    step = max(1, _CHUNK_VALUES // len(statistics))
    for start in range(0, len(features), step):
        points = features[start : start + step].double()
        finite = points.isfinite().all(1)
        near = of_rows(points[finite]).nan_to_num(nan=_WORST).clamp(_WORST, -_WORST).float()
        part = torch.full((len(near), classes), -torch.inf)
        scores[start : start + step][finite] = part.scatter_reduce(
            1, owners.expand(len(near), -1), near, "amax"
        )
    return scores


def _half_squares(points: Tensor, means: Tensor) -> Tensor:
    """Half the squared distances [m, R] of points [m, d] from means [R, d], all float64; at least 0.

    Squares are expanded, so that one matrix product makes them all; about the median of the means, since
    far from zero they would drown the distances. A median, because a mean goes along with a single
    prototype that lies far out, and all others would drown again.
    """
    centre = means.median(0).values
    points, means = points - centre, means - centre
    squares = points.square().sum(1, keepdim=True) + means.square().sum(1)
    return (squares / 2 - points @ means.T).clamp_min(0)


def _directions(points: Tensor) -> Tensor:
    """Unit vectors of points float64 [m, d]; zero of zero."""
    points = points / points.abs().amax(1, keepdim=True).clamp_min(_TINY)  # squares stay in range
    return points / points.square().sum(1, keepdim=True).sqrt().clamp_min(_TINY)
