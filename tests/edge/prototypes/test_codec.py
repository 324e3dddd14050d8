import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.prototypes import BITS, ClassStatistics, StatisticsCodec, StatisticsError


@st.composite
def statistics(draw):
    rows, dimension = draw(st.integers(0, 12)), draw(st.integers(1, 9))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = rows * 3
    features = generator.normal(0, draw(st.sampled_from([1e-4, 1.0, 1e6])), (count, dimension))
    if draw(st.booleans()):
        features = features.clip(0)
    labels = (
        generator.choice(2**31 if draw(st.booleans()) else 20, rows)[generator.integers(0, rows, count)]
        if rows
        else []
    )
    slots = generator.integers(0, 3, count) if draw(st.booleans()) else None
    return ClassStatistics.of(features, labels, slots, squares=draw(st.booleans()))


@settings(max_examples=150)
@given(statistics(), st.sampled_from(BITS))
def test_what_is_read_is_what_was_written(written, bits):
    codec = StatisticsCodec(written.dimension, bits)
    encoded = codec.encode(written)
    found = codec.decode(encoded.payload)
    for name in ("classes", "slots", "counts"):
        assert np.array_equal(getattr(found, name), getattr(written, name))
    assert (found.squares is None) == (written.squares is None)
    assert codec.ideal_bits(encoded.payload) == pytest.approx(encoded.ideal_bits, abs=1e-6)
    assert 8 * len(encoded.payload) <= encoded.ideal_bits + 8 * (4 if bits <= 16 else 0)
    if not len(written):
        return
    if bits == 64:
        assert np.array_equal(found.sums, written.sums)
        return
    means = written.means
    step = np.ptp(means) / ((1 << bits) - 1) / 2 if bits <= 16 else 0
    precision = 2.0**-22 * np.abs(means).max()
    assert np.abs(found.means - means).max() <= step + precision
    if written.squares is not None:
        variances = written.variances
        error = 2.0**-20 * (variances.max() + (means**2).max())
        step = np.ptp(variances) / ((1 << bits) - 1) / 2 if bits <= 16 else 0
        assert np.abs(found.variances - variances).max() <= step + error


@given(statistics(), st.sampled_from(BITS), st.data())
def test_damage_is_told_or_makes_statistics_and_never_crashes(written, bits, data):
    codec = StatisticsCodec(written.dimension, bits)
    payload = bytearray(codec.encode(written).payload)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for damaged in (bytes(payload), bytes(payload[:cut]), bytes(payload) + b"\x01"):
        with contextlib.suppress(StatisticsError):
            assert codec.decode(damaged).dimension == written.dimension
        with contextlib.suppress(StatisticsError):
            assert codec.ideal_bits(damaged) >= 0


def test_five_bits_are_six_times_smaller_than_float32():
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (100, 64))
    written = ClassStatistics.of(features, np.arange(100))
    coded, floats = (len(StatisticsCodec(64, bits).encode(written).payload) for bits in (5, 32))
    assert floats == 100 * (256 + 2) + 4
    assert coded * 6 < floats


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (5, "0205020203a90202010b0000003e0000204007f050000000000000104007c0"),
        (32, "0220020203a90202010000003e00002040000000400000003f0000803c000010400000000000000000"),
        (64, "fd8e1064d5523af9"),
    ],
)
def test_bytes_stay_as_they_are(bits, expected):
    written = ClassStatistics.of([[0.0, 1.0], [2.0, 0.5], [0.25, 4.0]], [3, 300, 3], squares=True)
    payload = StatisticsCodec(2, bits).encode(written).payload
    assert (payload.hex() if bits < 64 else hashlib.sha256(payload).hexdigest()[:16]) == expected


@pytest.mark.parametrize("bits", [0, 17, 33, "5"])
def test_bits_that_there_are_not(bits):
    with pytest.raises(ValueError, match="allowed are 1 to 16, 32 and 64"):
        StatisticsCodec(2, bits)


def test_what_does_not_fit_the_codec():
    two = ClassStatistics.of(np.ones((3, 2)), [0, 1, 2])
    with pytest.raises(StatisticsError, match="features have 2 values, expected 3"):
        StatisticsCodec(3).encode(two)
    with pytest.raises(StatisticsError, match="3 rows, a message has at most 2"):
        StatisticsCodec(2, most_rows=2).encode(two)
    payload = StatisticsCodec(2).encode(two).payload
    with pytest.raises(StatisticsError, match="statistics of 2 values of 32 bits, expected 2 of 8"):
        StatisticsCodec(2, 8).decode(payload)
    with pytest.raises(StatisticsError, match="3 rows, a message of"):
        StatisticsCodec(2, most_rows=2).decode(payload)
    with pytest.raises(StatisticsError, match="means beyond float32"):
        StatisticsCodec(1).encode(ClassStatistics.of([[1e300]], [0]))
    with pytest.raises(StatisticsError, match="form 9 is none"):
        StatisticsCodec(2).decode(b"\x09" + payload[1:])
