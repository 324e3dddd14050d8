import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.coding import CodingError, EntropyCoder, FrequencyTables

GOLDEN = Path(__file__).parent / "golden_bitstreams.json"
INT32 = np.iinfo(np.int32)


def laplacian_tables(generator: np.random.Generator, channels: int) -> FrequencyTables:
    masses, offsets = [], []
    for _ in range(channels):
        support = int(generator.integers(1, 60))
        distance = np.abs(np.arange(support) - support // 2)
        mass = np.exp(-distance / generator.uniform(0.05, 8))
        masses.append(mass / mass.sum() * generator.uniform(0.9, 1.0))
        offsets.append(int(generator.integers(-40, 40)))
    return FrequencyTables.from_probabilities(masses, offsets)


@settings(max_examples=200)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(0, 40),
    st.sampled_from([0.3, 2.0, 30.0, 1e5, 1e12]),
)
def test_any_int32_symbols_round_trip(seed: int, channels: int, count: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    coder = EntropyCoder(laplacian_tables(generator, channels))
    drawn = generator.normal(0, spread, (channels, count)).round()
    symbols = drawn.clip(INT32.min, INT32.max).astype(np.int32)
    payload = coder.encode(symbols)
    assert payload
    assert np.array_equal(coder.decode(payload, count), symbols)


@given(st.integers(0, 2**32 - 1), st.data())
def test_the_ends_of_int32_round_trip_beside_any_offset(seed: int, data: st.DataObject) -> None:
    mass = np.array([0.5, 0.5])
    offset = data.draw(st.sampled_from([INT32.min, -1, 0, 1, INT32.max - 1]))
    coder = EntropyCoder(FrequencyTables.from_probabilities([mass], [offset]))
    ends = [INT32.min, INT32.min + 1, -2, -1, 0, 1, 2, INT32.max - 1, INT32.max]
    symbols = np.random.default_rng(seed).choice(ends, (1, 12)).astype(np.int32)
    assert np.array_equal(coder.decode(coder.encode(symbols), 12), symbols)


def test_carries_at_the_end_of_the_stream_round_trip() -> None:
    # Nearly certain symbols keep the interval at the top of its range, where a carry may be pending.
    generator = np.random.default_rng(3)
    for lean in (0.5, 0.999, 1 - 1e-6):
        coder = EntropyCoder(FrequencyTables.from_probabilities([np.array([1 - lean, lean])], [0]))
        for _ in range(3000):
            symbols = (generator.random((1, int(generator.integers(1, 80)))) < lean).astype(np.int32)
            assert np.array_equal(coder.decode(coder.encode(symbols), symbols.shape[1]), symbols)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 60))
def test_size_is_within_eight_bytes_and_a_thousandth_of_the_ideal(
    seed: int, channels: int, count: int
) -> None:
    generator = np.random.default_rng(seed)
    tables = laplacian_tables(generator, channels)
    symbols = np.stack(
        [
            generator.choice(len(t), count, p=t / t.sum()) + o
            for t, o in zip(tables.frequencies, tables.offsets, strict=True)
        ]
    ).astype(np.int32)
    ideal = tables.bits(symbols).sum() / 8
    assert len(EntropyCoder(tables).encode(symbols)) <= ideal + 8 + 0.001 * ideal


def test_on_average_the_end_of_the_stream_costs_less_than_a_byte() -> None:
    generator = np.random.default_rng(0)
    excess = []
    for _ in range(300):
        tables = laplacian_tables(generator, 6)
        symbols = (
            np.stack([generator.choice(len(t) - 1, 20) for t in tables.frequencies]) + tables.offsets[:, None]
        )
        symbols = symbols.astype(np.int32)
        excess.append(len(EntropyCoder(tables).encode(symbols)) - tables.bits(symbols).sum() / 8)
    assert np.mean(excess) < 1.0


@given(st.binary(max_size=200), st.integers(0, 30))
def test_arbitrary_bytes_decode_or_are_refused(payload: bytes, count: int) -> None:
    coder = EntropyCoder(laplacian_tables(np.random.default_rng(1), 4))
    try:
        symbols = coder.decode(payload, count)
    except CodingError:
        return
    assert symbols.shape == (4, count)
    assert symbols.dtype == np.int32


def test_symbols_of_another_shape_or_type_are_refused() -> None:
    coder = EntropyCoder(laplacian_tables(np.random.default_rng(1), 4))
    with pytest.raises(ValueError, match=r"int64\[4, 2\], expected int32\[4, n\]"):
        coder.encode(np.zeros((4, 2), dtype=np.int64))
    with pytest.raises(ValueError, match=r"int32\[3, 2\]"):
        coder.encode(np.zeros((3, 2), dtype=np.int32))


def golden_cases() -> list[tuple[str, FrequencyTables, np.ndarray]]:
    cases = []
    for seed, spread in [(1, 1.0), (2, 4.0), (3, 1e9)]:
        generator = np.random.default_rng(seed)
        tables = laplacian_tables(generator, 5)
        drawn = generator.normal(0, spread, (5, 9)).round().clip(INT32.min, INT32.max)
        cases.append((f"seed {seed}, spread {spread:g}", tables, drawn.astype(np.int32)))
    return cases


def test_golden_bitstreams() -> None:
    # A change here is a change of the wire format: raise edge.coding.frame.PROTOCOL with it.
    golden = json.loads(GOLDEN.read_text())
    assert len(golden) == 3
    for case in golden:
        arrays = {
            name: np.array(values, dtype=np.uint32 if name == "tables.frequencies" else np.int32)
            for name, values in case["tables"].items()
        }
        tables = FrequencyTables.from_arrays(arrays)
        symbols = np.array(case["symbols"], dtype=np.int32)
        coder = EntropyCoder(tables)
        assert tables.digest().hex() == case["digest"], case["name"]
        assert coder.encode(symbols).hex() == case["payload"], case["name"]
        assert np.array_equal(coder.decode(bytes.fromhex(case["payload"]), symbols.shape[1]), symbols)


def write_golden() -> None:
    cases = [
        {
            "name": name,
            "tables": {key: array.tolist() for key, array in tables.to_arrays().items()},
            "symbols": symbols.tolist(),
            "digest": tables.digest().hex(),
            "payload": EntropyCoder(tables).encode(symbols).hex(),
        }
        for name, tables, symbols in golden_cases()
    ]
    GOLDEN.write_text(json.dumps(cases))


if __name__ == "__main__":
    write_golden()
