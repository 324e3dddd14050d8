"""The file of a server's prototypes: counted once, kept at once, and nothing in it that does not fit."""

import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edge.prototypes import ClassStatistics, StatisticsError
from edge.prototypes.limits import LARGEST, most_rows
from edge.prototypes.store import PUSHES, PrototypeStore, StoreError

MODEL, OTHER = "0123456789abcdef", "fedcba9876543210"
NEW = b"id of a new push"


def ident(number):
    return number.to_bytes(16, "little")


def some(seed, dimension=3, classes=6):
    generator = np.random.default_rng(seed)
    return ClassStatistics.of(generator.normal(size=(9, dimension)), generator.integers(0, classes, 9))


def same(left, right):
    names = ("classes", "slots", "counts", "sums")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


@pytest.fixture
def opened(tmp_path):
    """Opens the store ``prototypes`` of this test; what is open is closed with it."""
    stores = []

    def begin(dimension=3, **settings):
        for store in stores:
            store.close()
        stores.append(PrototypeStore(tmp_path / "prototypes", dimension, **settings))
        return stores[-1]

    yield begin
    for store in stores:
        store.close()


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
def test_every_push_counts_once_whenever_it_is_repeated_and_whatever_is_restarted(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("store") / "prototypes"
    store, pushed = PrototypeStore(path, 3), {}
    for push, restart in steps:
        assert store.add(ident(push), MODEL, some(push)) == (push not in pushed)
        pushed[push] = some(push)
        if restart:
            store.close()
            store = PrototypeStore(path, 3)
    expected = ClassStatistics.empty(3)
    for one in pushed.values():  # in the order in which they came, so equal to the last bit
        expected += one
    assert same(store.statistics, expected)
    assert store.model == (MODEL if pushed else None)
    if pushed:
        assert np.array_equal(store.prototypes.vectors, expected.means.astype(np.float32))
    else:
        assert store.prototypes is None
    store.close()


def test_the_pushes_counted_last_are_remembered(opened, monkeypatch):
    assert PUSHES >= 10_000
    monkeypatch.setattr("edge.prototypes.store.PUSHES", 3)
    store = opened()
    for push in range(4):
        assert store.add(ident(push), MODEL, some(push))
    store = opened()
    assert [store.add(ident(push), MODEL, some(push)) for push in (1, 2, 3, 0)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("push", "model", "statistics", "error", "words"),
    [
        (NEW[:15], MODEL, some(1), StatisticsError, "the id of the push has 15 bytes, expected 16"),
        (NEW, "mine", some(1), StatisticsError, "model id 'mine', expected 16 hex digits"),
        (NEW, OTHER, some(1), StoreError, f"features of model {OTHER}, the prototypes are of {MODEL}"),
        (NEW, MODEL, some(1, dimension=2), StatisticsError, "features have 2 values, expected 3"),
        (NEW, MODEL, some(1, classes=99), StatisticsError, "is unknown, allowed are 0 to 5"),
        (NEW, MODEL, ClassStatistics.empty(3), StatisticsError, "no samples"),
        (
            NEW,
            MODEL,
            ClassStatistics.of(np.ones((1, 3)), [2], squares=True),
            StatisticsError,
            "sums of squares",
        ),
        (
            NEW,
            MODEL,
            ClassStatistics.of([[0, -2 * LARGEST, 0]], [4]),
            StatisticsError,
            "the mean of class 4 has a value of 2e+15, allowed are up to 1e+15",
        ),
        (
            NEW,
            MODEL,
            ClassStatistics(np.array([1, 2]), np.array([0, 0]), np.array([2**62, 2**62]), np.zeros((2, 3))),
            StatisticsError,
            f"{2**63 + 9} samples with those counted already, at most 2^53 can be",
        ),
    ],
)
def test_what_cannot_be_counted_changes_nothing(opened, tmp_path, push, model, statistics, error, words):
    store = opened(most_classes=6)
    store.add(ident(0), MODEL, some(0))
    before, prototypes = (tmp_path / "prototypes").read_bytes(), store.prototypes
    with pytest.raises(error) as caught:
        store.add(push, model, statistics)
    assert words in str(caught.value)
    assert (tmp_path / "prototypes").read_bytes() == before
    assert store.prototypes is prototypes
    assert same(store.statistics, some(0))
    assert store.add(NEW, MODEL, some(1))  # its id was not taken


def test_a_store_has_no_more_rows_than_there_is_room_for(opened):
    dimension = 1 << 18
    store = opened(dimension)
    two = ClassStatistics.of(np.ones((2, dimension)), [0, 1])
    store.add(ident(0), MODEL, two)
    three = ClassStatistics.of(np.ones((3, dimension)), [2, 3, 4])
    with pytest.raises(StoreError, match="5 rows with those that are there already, there is room for 4"):
        store.add(ident(1), MODEL, three)
    assert same(store.statistics, two)
    assert store.add(ident(1), MODEL, three.of_classes([2, 3]))


def test_room_is_for_the_classes_of_a_large_data_set():
    assert most_rows(64) == 16_384
    assert most_rows(1) == 65_536
    assert most_rows(1 << 21) == 1


def test_a_disk_that_is_full_leaves_everything_as_it_was(opened, tmp_path):
    store = opened(dimension=1000)
    store.add(ident(0), MODEL, some(0, dimension=1000, classes=1))
    before = (tmp_path / "prototypes").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.add(ident(1), MODEL, some(1, dimension=1000, classes=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "prototypes").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prototypes", "prototypes.lock"]
    assert len(store.statistics) == 1
    assert store.add(ident(1), MODEL, some(1, dimension=1000, classes=3))  # it had not been counted
    assert len(opened(dimension=1000).statistics) == 3


def test_two_servers_cannot_have_one_file(opened, tmp_path):
    store = opened()
    with pytest.raises(StoreError, match="prototypes is in use by another server"):
        PrototypeStore(tmp_path / "prototypes", 3)
    store.close()
    store.close()
    PrototypeStore(tmp_path / "prototypes", 3).close()


def test_a_file_that_does_not_fit_is_refused_and_left_alone(opened, tmp_path):
    path = tmp_path / "prototypes"
    store = opened()
    store.add(ident(0), MODEL, some(0))
    store.close()
    good = path.read_bytes()
    for settings_, words in (
        ({"dimension": 4}, "has features of 3 values, the models make 4"),
        ({"model": OTHER}, f"has the features of model {MODEL}, expected {OTHER}"),
        ({"most_classes": 2}, "is unknown, allowed are 0 to 1"),
    ):
        with pytest.raises(StoreError) as caught:
            opened(**settings_)
        assert str(path) in str(caught.value)
        assert words in str(caught.value)
        assert path.read_bytes() == good
    assert opened(model=MODEL, most_classes=6).prototypes is not None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no tensors", "has no prototypes, or is damaged: "),
        ("truncated", "has no prototypes, or is damaged"),
        ({"images": np.zeros(3)}, "has no prototypes, or is damaged: 'format' is missing"),
        ("newer", "has format '2', this version reads '1'"),
        ("negative", "class 1 has -1 samples"),
        ("pushes", "pushes are uint8[2, 3]"),
    ],
)
def test_a_damaged_file_is_refused_and_left_alone(opened, tmp_path, content, words):
    path = tmp_path / "prototypes"
    arrays = {
        "classes": np.array([1]),
        "slots": np.array([0]),
        "counts": np.array([-1 if content == "negative" else 1]),
        "sums": np.zeros((1, 3)),
        "pushes": np.zeros((2, 3 if content == "pushes" else 16), np.uint8),
    }
    about = {"format": "2" if content == "newer" else "1", "model": MODEL}
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        save_file(content, path)
    else:
        save_file(arrays, path, about)
        if content == "truncated":
            path.write_bytes(path.read_bytes()[:-5])
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        opened()
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        PrototypeStore(tmp_path / "nowhere" / "prototypes", 3)
