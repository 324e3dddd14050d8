from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.hardware.nbiot import NbIot, radio_model_of
from fedsim.hardware.radio import energy

# State powers in the manner of 3GPP TR 45.820, and a wake-up of its own.
RADIO = NbIot(
    up_bps=62_500,
    down_bps=26_000,
    transmit_w=0.545,
    receive_w=0.090,
    idle_w=0.003,
    sleep_w=15e-6,
    inactivity_s=10.0,
    wake_s=2.0,
    wake_w=0.1,
)


def test_an_exchange_by_hand() -> None:
    # 200 bytes each way: 25.6 ms up, 61.54 ms down.
    found = RADIO.exchange(200, 200)
    up_s, down_s = 1600 / 62_500, 1600 / 26_000
    assert found.delivered_s == pytest.approx(2 + up_s + down_s, rel=1e-12)
    assert found.seconds == pytest.approx(12 + up_s + down_s, rel=1e-12)
    assert found.joules == pytest.approx(0.2 + 0.545 * up_s + 0.090 * down_s + 0.03, rel=1e-12)
    # Bytes are not what it pays for: these are 8 % of it.
    assert 1 - RADIO.exchange(0, 0).joules / found.joules == pytest.approx(0.078, abs=5e-4)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e6))
def test_a_period_is_an_exchange_and_sleep(up: float, down: float, sleep_s: float) -> None:
    exchange = RADIO.exchange(up, down)
    found = RADIO.energy(up, down, exchange.seconds + sleep_s)
    assert found == pytest.approx(exchange.joules + 15e-6 * sleep_s, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e4))
def test_an_exchange_is_the_same_by_the_states_of_a_radio(up: float, down: float, sleep_s: float) -> None:
    alone = RADIO.exchange(up, down)
    sent = 2.0 + 8 * up / 62_500
    until = alone.seconds + sleep_s
    found = energy(
        radio_model_of(RADIO), [2, sent], [sent, alone.delivered_s], [8 * up, 0], [0, 8 * down], until
    )
    assert found.total_j == pytest.approx(RADIO.energy(up, down, until), rel=1e-9)


def test_half_a_carrier_takes_twice_the_time_at_half_the_power_above_waiting() -> None:
    model = radio_model_of(RADIO)
    whole = energy(model, [2], [3], [62_500], [0], 20).active_j[0]
    half = energy(model, [2], [4], [62_500], [0], 20).active_j[0]
    assert whole == pytest.approx(0.545)
    assert half - whole == pytest.approx(0.003)


def test_release_assistance_saves_the_wait_behind_the_exchange() -> None:
    released = replace(RADIO, inactivity_s=0)
    assert RADIO.exchange(200, 0).joules - released.exchange(200, 0).joules == pytest.approx(0.03)
    assert RADIO.exchange(200, 0).delivered_s == released.exchange(200, 0).delivered_s


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="up_bps is 0, and has to be more than 0"):
        replace(RADIO, up_bps=0)
    with pytest.raises(ValueError, match="wake_w is -1, and has to be 0 or more"):
        replace(RADIO, wake_w=-1)
    with pytest.raises(ValueError, match="down_bytes is -1"):
        RADIO.exchange(0, -1)
    with pytest.raises(
        ValueError, match=r"period_s is 5, and an exchange of 200 bytes up and 0 down takes 12.026 s"
    ):
        RADIO.energy(200, 0, 5)
