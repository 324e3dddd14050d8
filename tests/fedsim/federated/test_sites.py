"""Who has what, on digits."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim import data
from fedsim.data.partitions import partition
from fedsim.errors import DataError
from fedsim.federated.site import NetworkPlan
from fedsim.federated.sites import dealt_site, growing_site

NETWORKS = [NetworkPlan("digits-cnn", {"widths": [4, 4, 4]})]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def everything(site):
    return [np.concatenate([*share.rounds, share.test]) for share in site.shares]


@pytest.mark.parametrize("personal_test", [0.0, 0.25, 0.5])
def test_a_part_of_what_a_client_is_dealt_is_its_test(digits, personal_test):
    chosen = {"kind": "dirichlet", "alpha": 0.3}
    site = dealt_site(digits, chosen, NETWORKS, clients=6, personal_test=personal_test, seed=4)
    found = partition(digits.y_train, "dirichlet", 6, 4, alpha=0.3)
    assert site.seed == 4
    for share, all_of_it, own in zip(site.shares, everything(site), found.indices, strict=True):
        assert sorted(all_of_it.tolist()) == own.tolist()
        assert len(share.test) == round(personal_test * len(own))
        assert all((np.diff(part) > 0).all() for part in (share.rounds[0], share.test))
        assert np.array_equal(share.samples(1), share.samples(9))
    assert chosen == {"kind": "dirichlet", "alpha": 0.3}


def test_the_same_seed_deals_the_same(digits):
    one, same, other = (
        dealt_site(digits, {"kind": "iid"}, NETWORKS, clients=3, seed=seed).shares for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a.test, b.test) for a, b in zip(one, same, strict=True))
    assert not any(np.array_equal(a.test, b.test) for a, b in zip(one, other, strict=True))


def test_networks_are_dealt_out_in_turn(digits):
    networks = [NetworkPlan("digits-cnn", {"widths": [4, 4, width]}, dimension=8) for width in (4, 8)]
    dealt = dealt_site(digits, {"kind": "iid"}, networks, clients=5)
    assert [share.network for share in dealt.shares] == [0, 1, 0, 1, 0]
    grown = growing_site(digits, range(4), range(4, 10), networks, clients=3, classes=2, shots=5)
    assert [share.network for share in grown.shares] == [0, 1, 0]


def test_natural_sources_come_from_the_data_set(digits):
    with pytest.raises(DataError, match="does not know where its samples come from"):
        dealt_site(digits, {"kind": "natural"}, NETWORKS, clients=3)
    sources = np.random.default_rng(0).integers(0, 4, len(digits.x_train))
    site = dealt_site(replace(digits, sources=sources), {"kind": "natural"}, NETWORKS, clients=4)
    for client, own in enumerate(everything(site)):
        assert sorted(own.tolist()) == np.flatnonzero(sources == client).tolist()


@pytest.mark.parametrize(
    ("chosen", "changes", "said"),
    [
        ({}, {}, "a partition needs its kind, a text; it is None"),
        ({"kind": "iidd"}, {}, "unknown partition 'iidd'"),
        ({"kind": "iid", "alpha": 1}, {}, "has no option 'alpha'"),
        ({"kind": "iid"}, {"clients": 0}, "clients are 0, allowed is 1 or more"),
        ({"kind": "iid"}, {"personal_test": 1.0}, "personal_test is 1.0, allowed is 0 and more, less than 1"),
        ({"kind": "iid"}, {"personal_test": float("nan")}, "personal_test is nan"),
        (
            {"kind": "iid"},
            {"clients": 600, "personal_test": 0.9},
            "client 0 of 600 has 1 samples|client 0 of 600 has 2 samples, and its own test of 0.9 leaves",
        ),
        ({"kind": "iid"}, {"networks": []}, "clients need a network; there is none"),
    ],
)
def test_what_cannot_be_dealt_out(digits, chosen, changes, said):
    options = {"networks": NETWORKS, "clients": 3, **changes}
    with pytest.raises(DataError, match=said):
        dealt_site(digits, chosen, **options)


@pytest.mark.parametrize("disjoint", [False, True])
def test_clients_meet_field_classes_and_the_server_has_the_base(digits, disjoint):
    site = growing_site(
        digits, range(4), range(4, 10), NETWORKS, clients=2, classes=2, shots=20, disjoint=disjoint, seed=3
    )
    labels = digits.y_train
    assert np.array_equal(site.base, np.flatnonzero(labels < 4))
    met = np.concatenate(everything(site))
    assert len(np.unique(met)) == len(met)
    counts = np.bincount(labels[met], minlength=10)
    whole = np.bincount(labels)[4:] // 20 * 20
    assert counts.tolist() == [0] * 4 + ([20] * 6 if disjoint else whole.tolist())
    for share in site.shares:
        assert not len(share.test)
        for part in share.rounds:
            of_part = np.bincount(labels[part], minlength=10)
            assert set(of_part.tolist()) <= {0, 20}
            assert (of_part > 0).sum() <= 2


def test_a_test_of_a_growing_client_is_of_what_it_meets_and_in_no_round(digits):
    site = growing_site(
        digits, range(4), range(4, 10), NETWORKS, clients=3, classes=1, shots=10, disjoint=True,
        personal_test=0.2, seed=1,
    )  # fmt: skip
    labels = digits.y_train
    for share in site.shares:
        trained = np.concatenate(share.rounds)
        assert not len(np.intersect1d(trained, share.test))
        assert np.unique(labels[share.test]).tolist() == np.unique(labels[trained]).tolist()
        for one in np.unique(labels[share.test]):
            assert (labels[share.test] == one).sum() == round(0.2 * (labels == one).sum())


def test_a_single_mission_counts_once(digits):
    site = growing_site(digits, range(8), [8, 9], NETWORKS, clients=1, classes=2, shots=100, seed=0)
    (share,) = site.shares
    assert len(share.samples(1)) == len(share.seen(5)) == 200
    assert not any(len(share.samples(number)) for number in range(2, 6))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": [0, 10]}, "base class 10: data set 'digits' has classes 0 to 9"),
        ({"field": [-1]}, "field class -1: data set 'digits'"),
        ({"field": [7, 8, 7]}, "field class 7 stands twice"),
        ({"field": [3, 4, 5]}, "class 3 cannot be a base class and a field class at once"),
        ({"field": []}, "missions need a field class"),
        ({"shots": 1000}, "class 4 has .* samples, 1000 shots"),
        ({"shots": 100, "personal_test": 0.5}, "class 4 has .* samples, 100 shots"),
        ({"clients": 4, "disjoint": True}, "client 3 of 4 would meet nothing; 6 field classes"),
        ({"classes": 0}, "classes is 0"),
        ({"clients": 0}, "clients are 0"),
        ({"personal_test": -0.1}, "personal_test is -0.1"),
    ],
)
def test_missions_that_cannot_be(digits, changes, said):
    options = {
        "base": range(4),
        "field": range(4, 10),
        "networks": NETWORKS,
        "clients": 2,
        "classes": 2,
        "shots": 5,
        **changes,
    }
    with pytest.raises(DataError, match=said):
        growing_site(digits, **options)
