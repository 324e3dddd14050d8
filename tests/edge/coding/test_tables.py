import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.coding import PRECISION, EntropyCoder, FrequencyTables

TOTAL = 1 << PRECISION


@st.composite
def probabilities(draw: st.DrawFn) -> np.ndarray:
    weights = draw(st.lists(st.floats(0, 1), min_size=1, max_size=60).filter(lambda w: sum(w) > 0))
    share = draw(st.floats(0.01, 1.0))
    return np.array(weights) / sum(weights) * share


@given(st.lists(probabilities(), min_size=1, max_size=5))
def test_frequencies_sum_to_the_precision_and_are_never_zero(pmfs: list[np.ndarray]) -> None:
    tables = FrequencyTables.from_probabilities(pmfs, [0] * len(pmfs))
    for pmf, table in zip(pmfs, tables.frequencies, strict=True):
        assert int(table.sum()) == TOTAL
        assert table.min() >= 1
        assert len(table) == len(pmf) + 1
        ideal = np.append(pmf, max(0.0, 1 - pmf.sum())) * TOTAL
        assert np.abs(table - ideal).max() <= 2 * len(table) + 1


@given(st.lists(probabilities(), min_size=1, max_size=5), st.integers(-1000, 1000))
def test_arrays_round_trip_and_name_the_same_tables(pmfs: list[np.ndarray], offset: int) -> None:
    tables = FrequencyTables.from_probabilities(pmfs, [offset] * len(pmfs))
    copy = FrequencyTables.from_arrays(tables.to_arrays())
    assert copy.digest() == tables.digest()
    assert all(np.array_equal(a, b) for a, b in zip(copy.frequencies, tables.frequencies, strict=True))


def test_the_digest_changes_with_a_single_frequency_and_with_an_offset() -> None:
    table = np.array([TOTAL - 3, 2, 1], dtype=np.uint32)
    other = np.array([TOTAL - 4, 3, 1], dtype=np.uint32)
    digests = {
        FrequencyTables((table,), np.array([0], dtype=np.int32)).digest(),
        FrequencyTables((table,), np.array([1], dtype=np.int32)).digest(),
        FrequencyTables((other,), np.array([0], dtype=np.int32)).digest(),
    }
    assert len(digests) == 3


def test_constriction_codes_with_exactly_these_frequencies() -> None:
    # The symbol at each boundary quantile, read off the range decoder: what the wire contract stands on.
    import constriction

    frequencies = np.array([1, 5, TOTAL - 1000, 990, 3, 1], dtype=np.uint32)
    tables = FrequencyTables((frequencies,), np.array([0], dtype=np.int32))
    model = EntropyCoder(tables)._models[0]
    starts = np.concatenate([[0], np.cumsum(frequencies.astype(np.int64))])
    scale = (2**64 - 1) >> PRECISION
    for symbol, (first, behind) in enumerate(itertools.pairwise(starts)):
        for quantile in {int(first), int(behind) - 1}:
            point = quantile * scale
            words = np.array([point >> 32, point & 0xFFFFFFFF], dtype=np.uint32)
            assert constriction.stream.queue.RangeDecoder(words).decode(model) == symbol


@pytest.mark.parametrize(
    ("frequencies", "offsets", "says"),
    [
        ([np.array([TOTAL], dtype=np.uint32)], [0], "needs a symbol and the escape"),
        ([np.array([TOTAL - 1, 2], dtype=np.uint32)], [0], f"sum {TOTAL + 1}"),
        ([np.array([TOTAL, 0], dtype=np.uint32)], [0], "minimum 0"),
        ([np.array([TOTAL - 1, 1], dtype=np.uint32)], [0, 1], "1 frequency tables but 2 offsets"),
    ],
)
def test_broken_tables_are_refused(frequencies: list[np.ndarray], offsets: list[int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FrequencyTables(tuple(frequencies), np.array(offsets, dtype=np.int32))


@pytest.mark.parametrize("pmf", [[], [0.0, 0.0], [-0.1, 0.5], [float("nan"), 0.5]])
def test_what_is_no_probability_is_refused_by_channel(pmf: list[float]) -> None:
    with pytest.raises(ValueError, match="channel 1"):
        FrequencyTables.from_probabilities([np.array([1.0]), np.array(pmf)], [0, 0])


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    arrays = FrequencyTables.from_probabilities([np.array([0.5, 0.5])], [0]).to_arrays()
    with pytest.raises(ValueError, match=r"tables\.lengths"):
        FrequencyTables.from_arrays({k: v for k, v in arrays.items() if k != "tables.lengths"})
    with pytest.raises(ValueError, match="lengths"):
        FrequencyTables.from_arrays(arrays | {"tables.lengths": np.array([2], dtype=np.int32)})
