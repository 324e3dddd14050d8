import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, StatisticsError
from fedsim.errors import FederationError
from fedsim.federated.masking import FixedPoint, Keys, masked, stream, unmasked

FORM = FixedPoint(classes=6, dimension=3)


def cohort(partitions, round_number=1):
    """The secrets of each, as it makes them of its own keys and of what the server passes on."""
    keys = {p: Keys() for p in partitions}
    public = {p: keys[p].public for p in partitions}
    return {
        p: {other: keys[p].secret(public[other], round_number) for other in partitions if other != p}
        for p in partitions
    }


def counted(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 30))
    return ClassStatistics.of(generator.normal(0, 5, (count, 3)), generator.integers(0, 6, count))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 40), min_size=2, max_size=6), st.integers(0, 1000), st.data())
def test_the_sum_is_exact_also_where_clients_drop_out(partitions, seed, data):
    secrets = cohort(partitions)
    own = {p: counted([seed, p]) for p in partitions}
    alone = {p: bytes([p]) * 32 for p in partitions}
    sent = {p: masked(FORM.encode(own[p]), p, alone[p], secrets[p]) for p in partitions}
    present = data.draw(st.sets(st.sampled_from(sorted(partitions)), min_size=1))
    absent = partitions - present
    total = sum((sent[p] for p in present), np.zeros((6, 4), np.uint64))
    revealed = {(p, q): secrets[p][q] for p in present for q in absent}
    told = {p: alone[p] for p in present}
    found = FORM.decode(unmasked(total, told, revealed))
    expected = ClassStatistics.merged(own[p] for p in present)
    assert np.array_equal(found.classes, expected.classes)
    assert np.array_equal(found.counts, expected.counts)
    assert np.abs(found.sums - expected.sums).max() <= len(present) * 2.0**-25
    words = sum((FORM.encode(own[p]) for p in present), np.zeros((6, 4), np.uint64))
    assert np.array_equal(unmasked(total, told, revealed), words)


def test_what_one_client_sends_is_noise():
    partitions = {0, 1}
    secrets = cohort(partitions)
    zeros = np.zeros((100, 10), np.uint64)
    own = {p: Keys().own_secret(1) for p in partitions}
    sent = masked(zeros, 0, own[0], secrets[0])
    bits = np.unpackbits(sent.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.01
    assert len(np.unique(sent)) == sent.size
    total = sent + masked(zeros, 1, own[1], secrets[1])
    assert abs(np.unpackbits(total.view(np.uint8)).mean() - 0.5) < 0.01  # until the own secrets are told
    assert np.array_equal(unmasked(total, own, {}), zeros)


def test_a_lost_client_that_nobody_tells_of_is_noticed():
    secrets = cohort({0, 1, 2})
    own = {p: bytes([p]) * 32 for p in (0, 1)}
    sent = [masked(FORM.encode(counted(p)), p, own[p], secrets[p]) for p in (0, 1)]
    with pytest.raises(StatisticsError, match="the masks did not cancel"):
        FORM.decode(unmasked(sent[0] + sent[1], own, {}))


@given(st.integers(0, 1000))
def test_counts_and_sums_may_be_any_numbers(seed):
    rows = np.random.default_rng(seed).normal(0, 100, (6, 4))
    found = FORM.decode_rows(FORM.encode_rows(rows))
    assert np.abs(found - rows).max() <= 2.0**-25
    with pytest.raises(StatisticsError, match="counts that cannot be"):
        FORM.decode(FORM.encode_rows(np.abs(rows)))  # of exact statistics they would be whole
    for wrong, said in (
        (rows[:5], r"of shape \[5, 4\], expected \[6, 4\]"),
        (np.full((6, 4), np.nan), "a count of nan"),
        (np.full((6, 4), 2.0**25), r"a count of 3.35544e\+07, masked counts are at most"),
    ):
        with pytest.raises(StatisticsError, match=said):
            FORM.encode_rows(wrong)


def test_two_clients_agree_and_no_third_nor_other_round_does():
    one, other, third = Keys(), Keys(), Keys()
    assert one.secret(other.public, 1) == other.secret(one.public, 1)
    assert one.secret(other.public, 1) != one.secret(third.public, 1)
    assert one.secret(other.public, 1) != one.secret(other.public, 2)
    assert Keys(one.private).public == one.public
    assert Keys(one.private).own_secret(1) == one.own_secret(1)
    assert len({one.own_secret(1), one.own_secret(2), other.own_secret(1), one.private}) == 4
    with pytest.raises(FederationError, match="a public key that is none"):
        one.secret(b"short", 1)
    with pytest.raises(FederationError, match="a public key that is none"):
        one.secret(bytes(32), 1)  # of low order: the secret would be the same for everybody


def test_the_stream_is_that_of_chacha20():
    """RFC 8439, appendix A.1, test vector 1: the key stream of a zero key."""
    assert stream(bytes(32), 2).astype("<u8").tobytes().hex() == "76b8e0ada0f13d90405d6ae55386bd28"


def test_secrets_that_were_not_asked_for():
    total = np.zeros((2, 2), np.uint64)
    for pair in ((0, 1), (5, 2)):
        with pytest.raises(FederationError, match="is none that was asked for"):
            unmasked(total, {0: bytes(32), 1: bytes(32)}, {pair: bytes(32)})


@pytest.mark.parametrize(
    ("statistics", "said"),
    [
        (ClassStatistics.of([[1.0, 2.0]], [0]), "features have 2 values, expected 3"),
        (ClassStatistics.of([[1.0, 2.0, 3.0]], [6]), "class 6 is unknown"),
        (ClassStatistics.of([[1.0, 2.0, 3.0]], [0], [1]), "one prototype a class"),
        (ClassStatistics.of([[1.0, 2.0, 3.0]], [0], squares=True), "no squares"),
        (ClassStatistics.of([[1e9, 2.0, 3.0]], [0]), "a sum of 1e\\+09, masked sums are at most"),
    ],
)
def test_statistics_that_cannot_be_masked(statistics, said):
    with pytest.raises(StatisticsError, match=said):
        FORM.encode(statistics)
