"""Small federated runs on digits."""

from collections.abc import Callable

import numpy as np
import pytest

from fedsim import data
from fedsim.data.missions import missions
from fedsim.data.partitions import partition
from fedsim.federated.site import NetworkPlan, Share, Site

NETWORK = NetworkPlan("digits-cnn", {"widths": [4, 8, 16]})


def growing(clients: int = 3, seed: int = 0) -> Site:
    """Digits 0 to 4 are known to the server; 5 to 9 are met by clients, two at a time."""
    digits = data.load("digits")
    base = np.flatnonzero(digits.y_train < 5)
    found = missions(digits.y_train, range(5, 10), clients=clients, classes=2, shots=10, seed=seed)
    rounds = [[mission.indices[:0] for _ in range(clients)] for mission in (each[0] for each in found)]
    for number, each in enumerate(found):
        for mission in each:
            rounds[number][mission.client] = mission.indices
    shares = [
        Share(tuple(rounds[n][client] for n in range(len(found))), np.zeros(0, np.int64))
        for client in range(clients)
    ]
    return Site(digits, shares, [NETWORK], base, seed)


def dealt(clients: int = 4, kind: str = "iid", seed: int = 0, **options: object) -> Site:
    """Digits dealt out, a quarter of each client's for its own test."""
    digits = data.load("digits")
    shares = []
    for own in partition(digits.y_train, kind, clients, seed, **options).indices:
        shuffled = np.random.default_rng([seed, int(own[0])]).permutation(own)
        cut = len(own) // 4
        shares.append(Share((np.sort(shuffled[cut:]),), np.sort(shuffled[:cut])))
    return Site(digits, shares, [NETWORK], seed=seed)


@pytest.fixture
def growing_site() -> Callable[..., Site]:
    return growing


@pytest.fixture
def dealt_site() -> Callable[..., Site]:
    return dealt
