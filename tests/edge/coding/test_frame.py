import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.coding import PROTOCOL, FrameError, Handshake, check_sample, checksum

EXPECTED = Handshake("0123456789abcdef", b"\x01" * 8, (12, 4, 4))


def test_a_golden_checksum() -> None:
    assert checksum(7, b"payload") == 0x9DFC1104


@given(st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=64), st.data())
def test_any_flipped_bit_is_found(sample: int, payload: bytes, data: st.DataObject) -> None:
    crc = checksum(sample, payload)
    check_sample(sample, payload, crc, 64)
    flipped = bytearray(payload)
    flipped[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FrameError, match=f"sample {sample}: checksum"):
        check_sample(sample, bytes(flipped), crc, 64)


@given(st.binary(min_size=2, max_size=64))
def test_a_truncated_payload_and_another_samples_number_are_found(payload: bytes) -> None:
    crc = checksum(3, payload)
    for sample, damaged in [(3, payload[:-1]), (4, payload)]:
        with pytest.raises(FrameError) as caught:
            check_sample(sample, damaged, crc, 64)
        assert caught.value.code == 3


def test_empty_and_oversized_payloads_have_their_own_codes() -> None:
    with pytest.raises(FrameError, match="empty payload") as empty:
        check_sample(0, b"", checksum(0, b""), 10)
    with pytest.raises(FrameError, match="payload of 11 bytes, at most 10 allowed") as oversized:
        check_sample(0, b"x" * 11, checksum(0, b"x" * 11), 10)
    assert (empty.value.code, oversized.value.code) == (3, 8)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            Handshake(EXPECTED.model, EXPECTED.tables, EXPECTED.feature_shape, protocol=PROTOCOL + 1),
            "expected 1, got 2",
        ),
        (Handshake("fedcba9876543210", EXPECTED.tables, EXPECTED.feature_shape), "got 'fedcba9876543210'"),
        (
            Handshake(EXPECTED.model, b"\x02" * 8, EXPECTED.feature_shape),
            "expected 0101010101010101, got 0202020202020202",
        ),
        (Handshake(EXPECTED.model, EXPECTED.tables, (12, 4, 5)), r"expected [12, 4, 4], got [12, 4, 5]"),
    ],
)
def test_a_mismatch_says_what_was_expected_and_what_came(other: Handshake, says: str) -> None:
    found = EXPECTED.mismatch(other)
    assert found is not None
    assert says in found


def test_name_and_top_may_differ() -> None:
    other = Handshake(EXPECTED.model, EXPECTED.tables, EXPECTED.feature_shape, client="camera-3", top=5)
    assert EXPECTED.mismatch(other) is None
