"""Class growth: missions on which clients meet classes that nobody knew before.

After Federated Reconnaissance (Hendryx et al. 2021): a server knows base classes; on each mission every
client sees a few samples of a few field classes, without ever seeing a sample twice; then the knowledge
of all is merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedsim.errors import DataError

__all__ = ["Mission", "missions", "n_way_k_shot"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Mission:
    """What one client meets on one mission.

    Args:
        number: of the mission, from 0.
        client: its number.
        indices: the samples, int64 [n], ascending.
        classes: of these samples, int64, ascending.
    """

    number: int
    client: int
    indices: Indices
    classes: NDArray[np.int64]


def missions(
    labels: NDArray[np.int64],
    field: Sequence[int],
    *,
    clients: int,
    classes: int,
    shots: int,
    seed: int,
    disjoint: bool = False,
) -> list[list[Mission]]:
    """Send clients out until every sample that makes up a whole mission has been used.

    Args:
        labels: class of each sample, int64 [n].
        field: classes that are to be met.
        clients: how many are on each mission.
        classes: field classes that a client meets on a mission; fewer where fewer have samples left.
        shots: samples of each; a class with fewer left is not met again.
        seed: the same seed gives the same missions.
        disjoint: each class is met once, by one client, and not again: classes grow one mission after
            the other. Otherwise clients draw their classes by themselves, and meet some again.

    Returns:
        the missions in order, each with one entry for every client that meets something.

    Raises:
        DataError: a field class with fewer samples than ``shots``, or numbers out of bounds.
    """
    for name, value in (("clients", clients), ("classes", classes), ("shots", shots)):
        if value < 1:
            raise DataError(f"missions: {name} is {value}, allowed is 1 or more")
    generator = np.random.default_rng(seed)
    left = {int(one): generator.permutation(np.flatnonzero(labels == one)) for one in field}
    for one, samples in left.items():
        if len(samples) < shots:
            raise DataError(f"missions: class {one} has {len(samples)} samples, {shots} shots are asked for")
    done: list[list[Mission]] = []
    while left:
        mission: list[Mission] = []
        for client in range(clients):
            open_ = sorted(left)
            if not open_:
                break
            met = sorted(generator.choice(open_, min(classes, len(open_)), replace=False).tolist())
            indices = np.sort(np.concatenate([left[one][:shots] for one in met]))
            mission.append(Mission(len(done), client, indices, np.array(met, dtype=np.int64)))
            for one in met:
                left[one] = left[one][shots:]
                if disjoint or len(left[one]) < shots:
                    del left[one]
        done.append(mission)
    return done


def n_way_k_shot(
    labels: NDArray[np.int64], *, clients: int, ways: int, spread: int, shots: int, seed: int
) -> tuple[Indices, ...]:
    """Each client has a few classes and the same number of samples of each (FedProto, Tan et al. 2022).

    The number of classes is uniform in ``max(2, ways - spread) .. min(all, ways + spread)``; samples are
    not shared while there are enough, and are drawn anew from all of the class where there are not.

    Args:
        labels: class of each sample, int64 [n].
        clients: how many.
        ways: classes of a client on average.
        spread: how much that may vary.
        shots: samples of each class.
        seed: the same seed gives the same samples.

    Returns:
        the samples of each client, int64, ascending.

    Raises:
        DataError: a class with fewer samples than ``shots``, or numbers out of bounds.
    """
    known = np.unique(labels)
    low, high = max(min(2, len(known)), ways - spread), min(len(known), ways + spread)
    if clients < 1 or shots < 1 or spread < 0 or low > high:
        asked = f"{clients} clients, {ways}±{spread} ways, {shots} shots"
        raise DataError(f"n-way k-shot: {asked} of {len(known)} classes cannot be")
    sizes = np.bincount(labels)
    if sizes[known].min() < shots:
        scarce = int(known[sizes[known].argmin()])
        raise DataError(
            f"n-way k-shot: class {scarce} has {sizes[scarce]} samples, {shots} shots are asked for"
        )
    generator = np.random.default_rng(seed)
    left: dict[int, Indices] = {}
    shares = []
    for _ in range(clients):
        own = []
        for one in generator.choice(known, int(generator.integers(low, high + 1)), replace=False).tolist():
            if len(left.get(one, ())) < shots:
                left[one] = generator.permutation(np.flatnonzero(labels == one))
            own.append(left[one][:shots])
            left[one] = left[one][shots:]
        shares.append(np.sort(np.concatenate(own)))
    return tuple(shares)
