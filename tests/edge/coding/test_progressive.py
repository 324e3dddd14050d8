"""Every prefix of a progressive stream decodes to the rows that it settles, and to no others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.coding import CodingError, FrequencyTables
from edge.coding.progressive import ProgressiveCoder


def skewed(generator: np.random.Generator, rows: int, largest: int = 40) -> FrequencyTables:
    """Tables from near-certain to uniform."""
    masses = []
    for _ in range(rows):
        mass = generator.uniform(size=int(generator.integers(1, largest))) ** generator.uniform(0, 60)
        masses.append(mass / mass.sum())
    return FrequencyTables.from_probabilities(masses, generator.integers(-9, 9, rows).tolist())


def drawn(generator: np.random.Generator, tables: FrequencyTables, count: int) -> np.ndarray:
    """Symbols [rows, count], half of them as the tables say, half of them anyhow."""
    rows = []
    for table, offset in zip(tables.frequencies, tables.offsets, strict=True):
        mass = table[:-1] / table[:-1].sum()
        likely = generator.choice(len(mass), count, p=mass)
        anyhow = generator.integers(0, len(mass), count)
        rows.append(np.where(generator.uniform(size=count) < 0.5, likely, anyhow) + offset)
    return np.stack(rows).astype(np.int32)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30))
def test_any_number_of_rows_round_trips_whatever_follows(seed: int, rows: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    tables = skewed(generator, rows)
    coder = ProgressiveCoder(tables)
    symbols = drawn(generator, tables, count)
    information = tables.bits(symbols).sum(1)
    for sent in range(1, rows + 1):
        payload = coder.encode(symbols[:sent])
        assert np.array_equal(coder.decode(payload, count), symbols[:sent])
        for behind in (b"\0" * 9, b"\xff" * 9, generator.bytes(9)):
            assert np.array_equal(coder.decode(payload + behind, count), symbols[:sent])
        # A bit for each row that may be followed, less than two bytes to end, and the coder's rounding.
        assert 8 * len(payload) <= information[:sent].sum() * 1.0005 + rows + 16


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 20))
def test_every_prefix_decodes_to_rows_that_were_sent(seed: int, rows: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    tables = skewed(generator, rows)
    coder = ProgressiveCoder(tables)
    symbols = drawn(generator, tables, count)
    payload = coder.encode(symbols)
    before = 0
    for length in range(len(payload) + 1):
        try:
            found = coder.decode(payload[:length], count)
        except CodingError:
            assert before == 0
            continue
        assert np.array_equal(found, symbols[: len(found)])
        assert len(found) >= before
        before = len(found)
    assert before == rows


def test_rows_without_information_are_not_made_up() -> None:
    certain = FrequencyTables.from_probabilities([np.array([1.0])] * 3, [0, 0, 0])
    coder = ProgressiveCoder(certain)
    symbols = np.zeros((3, 4), dtype=np.int32)
    for sent in (1, 2, 3):
        payload = coder.encode(symbols[:sent])
        assert len(payload) == 1
        assert len(coder.decode(payload, 4)) == sent


def test_a_prefix_needs_no_more_than_a_stream_of_its_own() -> None:
    generator = np.random.default_rng(3)
    tables = FrequencyTables.from_probabilities([np.full(64, 1 / 64)] * 4, [0] * 4)
    coder = ProgressiveCoder(tables)
    for _ in range(50):
        symbols = generator.integers(0, 64, (4, 9)).astype(np.int32)
        payload = coder.encode(symbols)
        for sent in (1, 2, 3):
            alone = len(coder.encode(symbols[:sent]))
            assert len(coder.decode(payload[: alone + 2], 9)) >= sent


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 100))
def test_damage_never_crashes(data: bytes, seed: int) -> None:
    coder = ProgressiveCoder(skewed(np.random.default_rng(seed), 3))
    try:
        found = coder.decode(data, 6)
    except CodingError:
        return
    assert 1 <= len(found) <= 3
    assert found.shape[1] == 6


@pytest.mark.parametrize(
    ("symbols", "says"),
    [
        (np.zeros((4, 2), np.int32), r"int32\[4, 2\], expected int32\[1\.\.3"),
        (np.zeros((0, 2), np.int32), r"int32\[0, 2\]"),
        (np.zeros((1, 0), np.int32), r"int32\[1, 0\]"),
        (np.zeros((1, 2), np.int64), "int64"),
        (np.array([[0, 5]], np.int32), "row 0 has symbols outside"),
        (np.array([[0, 1], [0, -1]], np.int32), "row 1 has symbols outside"),
    ],
)
def test_symbols_that_it_cannot_code_are_refused(symbols: np.ndarray, says: str) -> None:
    coder = ProgressiveCoder(FrequencyTables.from_probabilities([np.full(5, 0.2)] * 3, [0] * 3))
    with pytest.raises(ValueError, match=says):
        coder.encode(symbols)
