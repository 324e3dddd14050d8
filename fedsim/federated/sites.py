"""Sites of plain values: data dealt out to clients, and clients that meet new classes on missions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.data import Dataset
from fedsim.data.missions import missions
from fedsim.data.partitions import partition as shared_out
from fedsim.errors import DataError
from fedsim.federated.site import NetworkPlan, Share, Site

__all__ = ["dealt_site", "growing_site"]

Indices = NDArray[np.int64]

_DEALT, _HELD_BACK = 1, 2  # streams of random numbers, apart from each other


def dealt_site(
    dataset: Dataset,
    partition: Mapping[str, Any],
    networks: Sequence[NetworkPlan],
    *,
    clients: int,
    personal_test: float = 0.25,
    seed: int = 0,
    together: bool = True,
) -> Site:
    """The training set dealt out; every client has the same samples in all rounds.

    A share of each client's samples, drawn at random, is its own test and never trained on by anybody.

    Args:
        dataset: whose training set it is.
        partition: its ``kind``, and the options of that kind (:func:`fedsim.data.partitions.partition`).
        networks: dealt out in turn: client ``i`` has that of number ``i`` modulo how many there are.
        clients: how many.
        personal_test: share of a client's samples that it tests with, rounded; 0 and more, less than 1.
        seed: of all that is drawn.
        together: one process has all clients.

    Raises:
        DataError: samples that cannot be shared out so, a client that would have none to train on, or
            numbers out of bounds.
    """
    _check(clients, personal_test, networks)
    options = dict(partition)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise DataError(f"a partition needs its kind, a text; it is {kind!r}")
    found = shared_out(dataset.y_train, kind, clients, seed, sources=dataset.sources, **options)
    shares = []
    for client, own in enumerate(found.indices):
        training, test = _held_back(own, personal_test, [seed, _DEALT, client])
        if not len(training):
            raise DataError(
                f"partition {kind!r}: client {client} of {clients} has {len(own)} samples, "
                f"and its own test of {personal_test:g} leaves it none to train on"
            )
        shares.append(Share((training,), test, client % len(networks)))
    return Site(dataset, shares, list(networks), seed=seed, together=together)


def growing_site(
    dataset: Dataset,
    base: Sequence[int],
    field: Sequence[int],
    networks: Sequence[NetworkPlan],
    *,
    clients: int,
    classes: int,
    shots: int,
    disjoint: bool = False,
    personal_test: float = 0.0,
    seed: int = 0,
    together: bool = True,
) -> Site:
    """A server that knows base classes, and clients that meet others, a mission a round.

    The server has the training samples of the base classes, and of no other. A client has nothing in the
    rounds in which it meets nothing, nor in those behind the last mission.

    Personal tests are taken out of the training samples of the field classes ahead of the missions. A
    client's is made of all classes that it ever meets, so that in its first rounds it is asked for some that
    it has not met yet. By default there is none, since the missions of few shots need every sample, and the
    global test set tells all.

    Args:
        dataset: whose training set it is.
        base: classes that the server knows.
        field: classes that are to be met, none of them a base class.
        networks: dealt out in turn, as by :func:`dealt_site`.
        clients: how many are on each mission.
        classes: field classes that a client meets on a mission (:func:`fedsim.data.missions.missions`).
        shots: samples of each.
        disjoint: each class is met once, by one client; otherwise clients meet some again.
        personal_test: share of the samples of each field class that is taken out, rounded; 0 and more, less
            than 1.
        seed: of all that is drawn.
        together: one process has all clients.

    Raises:
        DataError: missions that cannot be, a client that would never meet anything, classes that there are
            not, that stand twice or in both lists, or numbers out of bounds.
    """
    _check(clients, personal_test, networks)
    _check_classes(dataset, base, field)
    labels = dataset.y_train
    tests: dict[int, Indices] = {}
    met = np.full(len(labels), -1)  # the class of what may be met
    for one in field:
        rest, tests[one] = _held_back(np.flatnonzero(labels == one), personal_test, [seed, _HELD_BACK, one])
        met[rest] = one
    found = missions(met, field, clients=clients, classes=classes, shots=shots, seed=seed, disjoint=disjoint)
    none = np.zeros(0, np.int64)
    # A single entry would stand for all rounds, and be counted again in each.
    rounds = [[none] * max(2, len(found)) for _ in range(clients)]
    known: list[set[int]] = [set() for _ in range(clients)]
    for mission in (one for each in found for one in each):
        rounds[mission.client][mission.number] = mission.indices
        known[mission.client].update(mission.classes.tolist())
    shares = []
    for client in range(clients):
        if not known[client]:
            raise DataError(
                f"missions: client {client} of {clients} would meet nothing; "
                f"{len(field)} field classes do for fewer clients, or for fewer classes a client"
            )
        test = np.sort(np.concatenate([tests[one] for one in sorted(known[client])]))
        shares.append(Share(tuple(rounds[client]), test, client % len(networks)))
    basis = np.flatnonzero(np.isin(labels, np.asarray(base, dtype=np.int64)))
    return Site(dataset, shares, list(networks), basis, seed, together)


def _held_back(own: Indices, share: float, stream: Sequence[int]) -> tuple[Indices, Indices]:
    """The rest and a random share of samples, rounded; both ascending."""
    shuffled = np.random.default_rng(stream).permutation(own)
    cut = round(share * len(own))
    return np.sort(shuffled[cut:]), np.sort(shuffled[:cut])


def _check(clients: int, personal_test: float, networks: Sequence[NetworkPlan]) -> None:
    if clients < 1:
        raise DataError(f"clients are {clients}, allowed is 1 or more")
    if not 0 <= personal_test < 1:
        raise DataError(f"personal_test is {personal_test}, allowed is 0 and more, less than 1")
    if not networks:
        raise DataError("clients need a network; there is none")


def _check_classes(dataset: Dataset, base: Sequence[int], field: Sequence[int]) -> None:
    for name, some in (("base", base), ("field", field)):
        for one in some:
            if not 0 <= one < dataset.classes:
                last = dataset.classes - 1
                raise DataError(f"{name} class {one}: data set {dataset.name!r} has classes 0 to {last}")
        if len(set(some)) < len(some):
            twice = next(one for at, one in enumerate(some) if one in list(some)[:at])
            raise DataError(f"{name} class {twice} stands twice")
    if not field:
        raise DataError("missions need a field class to be met; there is none")
    if both := sorted(set(base) & set(field)):
        raise DataError(f"class {both[0]} cannot be a base class and a field class at once")
