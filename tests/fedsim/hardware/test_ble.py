import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.ble import Ble


def nrf52840(interval_s: float, **other) -> Ble:
    """At 0 dBm and 3 V, by its product specification."""
    return Ble(interval_s, volts=3.0, transmit_a=6.40e-3, receive_a=6.26e-3, **other)


def test_the_published_figures_of_an_ideal_link() -> None:
    # 244 bytes in 2.12 ms, an answer of 0.08 ms, two spaces of 150 us: 2.5 ms.
    ble = nrf52840(0.0075)
    assert ble.event_packets == 3
    assert ble.goodput == pytest.approx(0.7808e6, rel=1e-12)
    assert ble.energy(244) == pytest.approx(3 * (6.40e-3 * 2.12e-3 + 6.26e-3 * 0.08e-3), rel=1e-12)
    assert ble.energy(244) / (8 * 244) == pytest.approx(21.6e-9, abs=5e-11)
    assert ble.energy(10_000) == pytest.approx(1.7e-3, abs=5e-5)


def test_time_by_hand() -> None:
    ble = nrf52840(0.030)
    assert ble.event_packets == 12
    # 10,000 bytes are 40 packets and one of 240: three events of twelve, and 4 and the last in the fourth.
    last = 4 * 2.5e-3 + 2.5e-3 - 8 * 4 / 1e6
    assert ble.seconds(10_000, wait=0) == pytest.approx(3 * 0.030 + last, rel=1e-12)
    assert ble.seconds(10_000) == pytest.approx(3.5 * 0.030 + last, rel=1e-12)
    assert nrf52840(0.030, packets_per_event=1).seconds(10_000, wait=1) == pytest.approx(
        41 * 0.030 + 2.5e-3 - 8 * 4 / 1e6, rel=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0075, 4), st.integers(0, 50_000), st.floats(0, 1))
def test_packets_hold_the_payload_within_their_events(interval_s: float, size: int, wait: float) -> None:
    ble = nrf52840(interval_s)
    packets = ble.packets(size)
    assert packets == max(math.ceil(size / 244), 1)
    events = math.ceil(packets / ble.event_packets)
    time = ble.seconds(size, wait)
    assert (events - 1 + wait) * interval_s < time <= (events + wait) * interval_s * (1 + 1e-9)
    assert ble.seconds(size + 244, wait) > time
    assert ble.energy(size + 1) > ble.energy(size)
    # The wait of a device that has just missed an event is that of a whole interval.
    assert ble.seconds(size, 1) - ble.seconds(size, 0) == pytest.approx(interval_s)


def test_a_connection_without_data_by_hand() -> None:
    # Every interval an empty packet of 80 us from the peer, and one in answer.
    ble = nrf52840(0.030)
    empty = 3 * (6.40e-3 + 6.26e-3) * 80e-6
    assert ble.idle_w == pytest.approx(empty / 0.030, rel=1e-12)
    assert ble.idle_energy([0, 244, 12 * 244, 12 * 244 + 1]) == pytest.approx(empty * np.array([1, 1, 1, 2]))
    assert ble.receive_energy(244) == pytest.approx(3 * (6.26e-3 * 2.12e-3 + 6.40e-3 * 0.08e-3), rel=1e-12)


def test_payloads_by_the_array() -> None:
    ble = nrf52840(0.030)
    sizes, part = np.array([[0, 1], [244, 50_000]]), np.array([[0, 0.25], [0.5, 1]])
    for method in (ble.packets, ble.events, ble.energy, ble.receive_energy):
        assert method(sizes).ravel().tolist() == [method(int(size)) for size in sizes.flat]
    alone = [ble.seconds(int(size), float(wait)) for size, wait in zip(sizes.flat, part.flat, strict=True)]
    assert ble.seconds(sizes, part).ravel().tolist() == alone


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"interval_s is 0.002, and a packet of 244 bytes .* 0.002500 s"):
        nrf52840(0.002)
    with pytest.raises(ValueError, match="packets_per_event is 0"):
        nrf52840(0.03, packets_per_event=0)
    with pytest.raises(ValueError, match="spacing_s is -1"):
        nrf52840(0.03, spacing_s=-1)
    with pytest.raises(ValueError, match="wait is 2, allowed is 0 to 1"):
        nrf52840(0.03).seconds(1, wait=2)
    with pytest.raises(ValueError, match="payload_bytes is -1"):
        nrf52840(0.03).packets(-1)
