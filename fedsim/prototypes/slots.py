"""Several prototypes a class that still merge exactly.

A class of several kinds, such as sevens with and without a bar, is told better by several means. Means
merge by addition only where they are of the same thing: were every client to cluster its own samples, its
cluster 0 would have nothing to do with another's, and their sum with neither. So all have the same centres,
made by the server; a sample belongs to the nearest centre of its class, whoever has it, and the number of
that centre is its slot. The slot depends on the sample and the centres alone, so that statistics of any
partition of the samples merge to those of all of them::

    centres = cluster(features, labels, 3, seed=0)           the server, on samples of its own
    centres = spread(statistics, 3, seed=0)                  ... or on merged statistics with squares
    slots = assign(features, labels, centres)                every client
    statistics = ClassStatistics.of(features, labels, slots)

Of a class that nobody has met yet there are no centres. So ``reconnaissance`` has some that all classes
share: with a 0 for every label, in the first line and in the third, a class has a prototype in each region
of the embedding where it has samples.

Means of merged statistics are the next step of k-means on the samples of all clients, which nobody has
seen: ``centres = Prototypes.of(merged)``, as often as one likes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.prototypes import ClassStatistics, Prototypes, StatisticsError

__all__ = ["assign", "cluster", "spread"]

_CHUNK_VALUES = 1 << 22  # distances that are held at once


def cluster(
    features: ArrayLike, labels: ArrayLike, slots: int, *, seed: int, iterations: int = 100
) -> Prototypes:
    """Centres of each class by k-means on samples of one's own.

    k-means++ and Lloyd's algorithm, those of scikit-learn, for each class by itself.

    Args:
        features: [n, d], at least one sample.
        labels: class of each sample, integers [n].
        slots: centres a class, 1 or more; a class with fewer different samples has as many as those.
        seed: the same seed gives the same centres.
        iterations: of Lloyd's algorithm at most.

    Raises:
        StatisticsError: samples that cannot be counted, or numbers out of bounds.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (takes a second to import)

    _check("slots", slots)
    _check("iterations", iterations)
    values, owners = np.asarray(features, dtype=np.float64), np.asarray(labels)
    classes, vectors = [], []
    for one in ClassStatistics.of(values, owners).known:  # checks them, too
        own = values[owners == one]
        distinct = len(np.unique(own, axis=0))
        means = KMeans(min(slots, distinct), n_init=4, max_iter=iterations, random_state=seed).fit(own)
        centres = means.cluster_centers_
        vectors.append(centres[np.lexsort(centres.T[::-1])])
        classes += [one] * len(centres)
    return Prototypes(
        np.array(classes, dtype=np.int64), np.concatenate(vectors or [values]).astype(np.float32)
    )


def spread(statistics: ClassStatistics, slots: int, *, seed: int) -> Prototypes:
    """Centres of each class about its mean, where the server has no samples of its own.

    A mean is split as in the design of vector quantisers (Linde, Buzo, Gray, IEEE Transactions on
    Communications 28, 1980): the centres lie one standard deviation of each feature away from it, in
    directions drawn at random, in pairs on either side of it. They are a beginning, for a step or two of
    k-means on merged statistics to improve.

    Args:
        statistics: with squares, one row a class.
        slots: centres a class, 1 or more. An odd one out is the mean itself.
        seed: the same seed gives the same centres.

    Raises:
        StatisticsError: statistics of no samples, without squares, or of several rows a class; slots out of
            bounds.
    """
    _check("slots", slots)
    if len(statistics.known) < len(statistics):
        raise StatisticsError("statistics have several rows a class; these are centres already")
    deviations = np.sqrt(statistics.variances)
    rows, dimension = deviations.shape
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (rows, slots // 2, dimension))
    steps = np.concatenate([signs, -signs, np.zeros((rows, slots % 2, dimension))], 1)
    centres = statistics.means[:, None] + steps * deviations[:, None]
    return Prototypes(
        np.repeat(statistics.classes, slots), centres.reshape(rows * slots, dimension).astype(np.float32)
    )


def assign(features: ArrayLike, labels: ArrayLike, centres: Prototypes) -> NDArray[np.int64]:
    """The slot of each sample: the number of the nearest centre among those of its class.

    Args:
        features: [n, d].
        labels: class of each sample, integers [n].
        centres: those that all have in common.

    Returns:
        int64 [n]; 0 for a class without centres, which has one prototype, and of equally near centres the
        first.

    Raises:
        StatisticsError: shapes that do not fit.
    """
    values, owners = np.asarray(features, dtype=np.float64), np.asarray(labels)
    dimension = centres.vectors.shape[1]
    if values.ndim != 2 or values.shape[1] != dimension or owners.shape != values.shape[:1]:
        shapes = f"features {list(values.shape)}, labels {list(owners.shape)}"
        raise StatisticsError(f"{shapes}; expected [n, {dimension}], [n]")
    slots = np.zeros(len(values), dtype=np.int64)
    for one in np.unique(owners):
        near = centres.vectors[centres.classes == one].astype(np.float64)
        if len(near) < 2:
            continue
        own = np.flatnonzero(owners == one)
        step = max(1, _CHUNK_VALUES // near.size)
        for start in range(0, len(own), step):
            part = own[start : start + step]
            slots[part] = ((values[part, None] - near) ** 2).sum(2).argmin(1)
    return slots


def _check(name: str, value: int) -> None:
    if value < 1:
        raise StatisticsError(f"{name} is {value}, allowed is 1 or more")
