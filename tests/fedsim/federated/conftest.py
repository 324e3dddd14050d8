"""Small federated runs on digits."""

from collections.abc import Callable

import pytest

from fedsim import data
from fedsim.federated import sites
from fedsim.federated.site import NetworkPlan, Site

NETWORK = NetworkPlan("digits-cnn", {"widths": [4, 8, 16]})


def growing(clients: int = 3, seed: int = 0) -> Site:
    """Digits 0 to 4 are known to the server; 5 to 9 are met by clients, two at a time."""
    return sites.growing_site(
        data.load("digits"),
        range(5),
        range(5, 10),
        [NETWORK],
        clients=clients,
        classes=2,
        shots=10,
        seed=seed,
    )


def dealt(clients: int = 4, kind: str = "iid", seed: int = 0, **options: object) -> Site:
    """Digits dealt out, a quarter of each client's for its own test."""
    partition = {"kind": kind, **options}
    return sites.dealt_site(data.load("digits"), partition, [NETWORK], clients=clients, seed=seed)


@pytest.fixture
def growing_site() -> Callable[..., Site]:
    return growing


@pytest.fixture
def dealt_site() -> Callable[..., Site]:
    return dealt
