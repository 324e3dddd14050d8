import numpy as np
import pytest

from fedsim.data import partitions
from fedsim.data.partitions import partition
from fedsim.errors import DataError

LABELS = np.random.default_rng(0).integers(0, 10, 1200)
SOURCES = np.random.default_rng(1).integers(0, 12, 1200)
KINDS = {
    "iid": {},
    "dirichlet": {"alpha": 0.3},
    "pathological": {"classes": 2},
    "shards": {"shards": 2},
    "natural": {},
    "n-way-k-shot": {"ways": 3, "shots": 10},
}


@pytest.mark.parametrize(("kind", "options"), KINDS.items())
def test_no_sample_has_two_clients_and_the_same_seed_gives_the_same(kind, options):
    found = partition(LABELS, kind, 8, seed=3, sources=SOURCES, **options)
    assert len(found) == 8
    everything = np.concatenate([*found.indices, found.unused])
    assert sorted(everything.tolist()) == list(range(1200))
    assert all((np.diff(own) > 0).all() for own in found.indices)
    again = partition(LABELS, kind, 8, seed=3, sources=SOURCES, **options)
    assert all(np.array_equal(a, b) for a, b in zip(found.indices, again.indices, strict=True))
    other = partition(LABELS, kind, 8, seed=4, sources=SOURCES, **options)
    same = [np.array_equal(a, b) for a, b in zip(found.indices, other.indices, strict=True)]
    assert all(same) if kind == "natural" else not all(same)
    assert found.counts(LABELS, 10).sum() == 1200 - len(found.unused)


def test_what_the_kinds_are():
    def counts(kind, clients=8, **options):
        return partition(LABELS, kind, clients, seed=3, sources=SOURCES, **options).counts(LABELS, 10)

    assert set(counts("iid").sum(1)) == {150}
    assert (counts("iid") > 0).all()
    assert ((counts("pathological", classes=2) > 0).sum(1) == 2).all()
    assert ((counts("shards", shards=2) > 0).sum(1) <= 4).all()
    skewed, even = (counts("dirichlet", alpha=alpha) for alpha in (0.05, 1000))
    assert (skewed == 0).mean() > 0.3
    assert np.ptp(even, axis=0).max() <= 4
    assert skewed.sum(1).min() >= 10
    shots = counts("n-way-k-shot", ways=3, shots=10, spread=1)
    assert set(np.unique(shots).tolist()) == {0, 10}
    assert set((shots > 0).sum(1).tolist()) <= {2, 3, 4}
    natural = partition(LABELS, "natural", 12, seed=0, sources=SOURCES)
    assert [set(SOURCES[own].tolist()) for own in natural.indices] == [{i} for i in range(12)]


def test_every_kind_says_what_it_is():
    assert set(partitions.available()) == set(KINDS)
    assert all(len(title) > 20 for title in partitions.available().values())
    assert list(partitions.options_of("dirichlet")) == ["alpha", "smallest", "balanced"]


@pytest.mark.parametrize(
    ("kind", "clients", "options", "said"),
    [
        ("dirichle", 8, {}, "unknown partition 'dirichle'; known are iid, dirichlet"),
        ("dirichlet", 8, {}, "partition 'dirichlet' needs the option 'alpha'"),
        ("iid", 8, {"alpha": 1}, "partition 'iid' has no option 'alpha'; it has none"),
        ("iid", 0, {}, "1200 samples cannot be shared out to 0 clients"),
        ("iid", 1201, {}, "1200 samples cannot be shared out to 1201 clients"),
        ("natural", 8, {}, "the data set does not know where its samples come from"),
        ("dirichlet", 8, {"alpha": -1.0}, "partition 'dirichlet' of 1200 samples to 8 clients"),
        ("pathological", 8, {"classes": 11}, "partition 'pathological' of 1200 samples to 8 clients"),
        ("n-way-k-shot", 8, {"ways": 3}, "partition 'n-way-k-shot' needs the option 'shots'"),
        ("n-way-k-shot", 8, {"ways": 3, "shots": 500}, "n-way k-shot: class . has .*, 500 shots are asked"),
        ("n-way-k-shot", 40, {"ways": 9, "shots": 50}, "class . has .* samples, too few for 40 clients"),
        ("dirichlet", 200, {"alpha": 0.01, "smallest": 10}, "partition 'dirichlet' of 1200 samples"),
    ],
)
def test_what_cannot_be_shared_out(kind, clients, options, said):
    with pytest.raises(DataError, match=said):
        partition(LABELS, kind, clients, seed=0, **options)
