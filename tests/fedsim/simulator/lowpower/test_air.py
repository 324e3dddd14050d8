"""LoRa, BLE and NB-IoT through the event loop, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.errors import SimulationError
from fedsim.hardware import find_link, find_radio
from fedsim.hardware.airtime import LoRa, Phase
from fedsim.hardware.battery import Battery
from fedsim.hardware.models import ble_of, link_of, lora_of, nbiot_of, radio_of
from fedsim.hardware.power import DevicePower
from fedsim.simulator.energy import energy_of
from fedsim.simulator.fleet import Cell, Device, Server, Work, simulate
from fedsim.simulator.links import placed
from fedsim.simulator.lowpower import Carried, carried, metered, remarks

LORA = lora_of(find_radio("lora"), 7)
BLE = ble_of(find_radio("ble"))
POWER = DevicePower(0.5, 2.0)
GENERATOR = np.random.default_rng(0)


def through(radio, work, up_bytes, reply_bytes=20, *, server_s=0.1, in_flight=1, **device):
    """What is foreseen, and what the event loop makes of it."""
    found = carried(radio, work, up_bytes, reply_bytes, GENERATOR, server_s=server_s, in_flight=in_flight)
    one = Device(found.put_on(work), 0, 0, in_flight, radio=found.radio, power=POWER, **device)
    return found, simulate([Cell()], Server(workers=len(work.at_s), fixed_s=server_s), [one])


def test_a_payload_over_lora_by_hand():
    found, outcome = through(LORA, Work(np.array([5.0]), compute_s=0.25), [4096])
    last = float(LORA.time_on_air(4096 - 18 * 222))
    full = float(LORA.time_on_air(222))
    arrived = 5.25 + 18 * 100 * full + last  # 99 times as much silence behind each but the last
    assert outcome.at("arrived") == pytest.approx([arrived], rel=1e-12)
    # The answer begins a second behind the uplink, of which the server takes a tenth.
    assert outcome.at("ended") == pytest.approx([arrived + 1.0 + LORA.time_on_air(20)], rel=1e-12)
    assert (found.frames[0], found.wire_bytes[0], found.reply_wire_bytes[0]) == (19, 4096 + 19 * 13, 33)
    assert found.air_s[0] == pytest.approx(18 * full + last)
    asleep = 45e-6
    around = 0.1682 * 22.1e-3 + 0.0838 * 13.3e-3 + 2 * 27e-3 + 0.147 * 13e-3 + 0.268 * 21e-3 + 0.038 * 13e-3
    silent = 0.1682 + 0.0838 + 2 + 0.147 + 0.268 + 0.038
    sending = (44e-3 - asleep) * (18 * full + last) + 19 * (around - asleep * silent)
    assert found.up_j[0] == pytest.approx(3.3 * sending, rel=1e-12)
    assert found.down_j[0] == pytest.approx(3.3 * (9.7e-3 - asleep) * float(LORA.time_on_air(20)), rel=1e-12)
    assert found.joules[0] == found.up_j[0] + found.down_j[0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 3), st.sampled_from([7, 12]), st.booleans())
def test_the_duty_cycle_is_kept_and_nothing_waits_longer(seed, paused, in_flight, factor, free_band):
    """Where there is no duty cycle, a device still waits for the answer before it sends again."""
    generator = np.random.default_rng(seed)
    lora = replace(lora_of(find_radio("lora"), factor), duty_cycle=1.0 if free_band else 0.01)
    size = generator.integers(0, 1000, 20)
    at = generator.exponential(float(lora.period(500)), 20)
    work = Work(at if paused else np.cumsum(at), paused, compute_s=generator.random(20))
    found, outcome = through(lora, work, size, in_flight=in_flight)
    begin = outcome.at("arrived") - lora.seconds(size)
    free = begin + np.maximum(lora.period(size), outcome.at("ended") - begin)
    allowed = np.concatenate([[-np.inf], free[:-1]])
    assert begin == pytest.approx(np.maximum(outcome.at("computed"), allowed), rel=1e-9)
    on_air = found.air_s[:-1].sum()
    assert on_air <= lora.duty_cycle * (begin[-1] - begin[0]) * (1 + 1e-9)


def test_a_closed_loop_goes_at_the_period_of_its_duty_cycle():
    _, outcome = through(LORA, Work(np.zeros(5), True, compute_s=0.2), 4096)
    assert np.diff(outcome.at("arrived")) == pytest.approx(float(LORA.period(4096)), rel=1e-9)


def test_an_answer_comes_in_a_window_or_not_at_all():
    work = Work(np.array([0.0]))
    far = lora_of(find_radio("lora"), 12)
    late = carried(LORA, work, [10], 20, GENERATOR, server_s=1.5)
    assert late.down_delay_s == pytest.approx(0.5 + far.time_on_air(20))
    with pytest.raises(
        SimulationError, match=r"the server takes 2.5 s for an answer, .* listens 1 s and 2 s"
    ):
        carried(LORA, work, [10], 20, GENERATOR, server_s=2.5)
    with pytest.raises(SimulationError, match="an answer has 60 bytes, and a window of SF12 has room for 51"):
        carried(far, work, [10], 60, GENERATOR)


def test_what_does_not_fit_the_duty_cycle_is_said_plainly():
    assert remarks(LORA, [4000, 4192], 60.0) == [
        "the payload does not fit the duty cycle of LoRa: 4,096 bytes need 19 frames of SF7 (222 bytes at "
        "most in each): 6.83 s on air, which a duty cycle of 1 % allows at most once every 683 s; "
        "asked: every 60 s"
    ]
    assert remarks(LORA, [4096], None) == [
        "LoRa sets the pace of devices that wait for their answers: 4,096 bytes need 19 frames of SF7 "
        "(222 bytes at most in each): 6.83 s on air, which a duty cycle of 1 % allows at most once every "
        "683 s"
    ]
    assert remarks(LORA, [4096], 700.0) == remarks(LORA, [], 1.0) == remarks(BLE, [4096], 1.0) == []


def test_a_wait_for_ble_is_half_an_interval_in_the_mean():
    ble = replace(BLE, interval_s=0.1)
    size = np.full(20_000, 3000)
    found = carried(ble, Work(np.arange(20_000.0)), size, 20, np.random.default_rng(1))
    error = 4 * 0.1 / np.sqrt(12 * 20_000)
    assert found.up_delay_s.mean() == pytest.approx(float(ble.seconds(3000)), abs=error)
    assert found.down_delay_s.mean() == pytest.approx(float(ble.seconds(20)), abs=error)
    assert np.ptp(found.up_delay_s) <= 0.1
    assert (found.frames[0], found.wire_bytes[0], found.reply_wire_bytes[0]) == (13, 3000 + 13 * 21, 41)
    again = carried(ble, Work(np.arange(20_000.0)), size, 20, np.random.default_rng(1))
    assert (again.up_delay_s == found.up_delay_s).all()


def test_payloads_over_ble_follow_one_another_and_wait_for_no_answer():
    found, outcome = through(BLE, Work(np.zeros(5)), 3000, server_s=1.0, in_flight=5)
    begin = np.concatenate([[0.0], outcome.at("arrived")[:-1]])
    on_way = outcome.at("arrived") - begin
    assert (np.abs(on_way - BLE.seconds(3000)) <= 0.5 * BLE.interval_s).all()
    assert (outcome.at("ended") - outcome.at("done")).tolist() == pytest.approx(found.down_delay_s.tolist())


def test_joules_of_ble_by_hand():
    found = carried(BLE, Work(np.zeros(1)), [3000], 20, GENERATOR)
    # 13 packets, three in an event: five events, whose empty packets were there in any case.
    empty_j = 3 * (6.40e-3 + 6.26e-3) * 80e-6
    sent_j = 3 * (6.40e-3 * 8e-6 * (3000 + 13 * 21) + 6.26e-3 * 13 * 80e-6)
    assert found.up_j == pytest.approx([sent_j - 5 * empty_j], rel=1e-12)
    assert found.down_j == pytest.approx([3 * (6.26e-3 * 8e-6 * 41 + 6.40e-3 * 80e-6) - empty_j], rel=1e-12)
    assert found.radio.idle_w == pytest.approx(empty_j / 7.5e-3, rel=1e-12)
    assert found.air_s == pytest.approx([8e-6 * (3000 + 13 * 21)])


@pytest.mark.parametrize("radio", [LORA, BLE])
def test_a_sample_is_charged_what_its_payload_costs(radio):
    size = np.array([100, 3000, 0])
    found, outcome = through(radio, Work(np.array([0.0, 10.0, 20.0]), compute_s=1.0), size)
    until = outcome.ended_s + 100
    used = energy_of(outcome, 0, until)
    assert used.up_j == pytest.approx(found.up_j, rel=1e-12)
    assert used.down_j == pytest.approx(found.down_j, rel=1e-12)
    assert used.bits_j == pytest.approx(found.joules, rel=1e-12)
    assert used.promotion_j == used.tail_j == 0
    assert used.idle_j == pytest.approx(radio.idle_w * until)
    assert used.total_j == pytest.approx((0.5 + radio.idle_w) * until + 3 * 1.5 + found.joules.sum())


@pytest.mark.parametrize("radio", [LORA, BLE])
def test_the_battery_is_charged_the_same(radio):
    work = Work(np.arange(6) * 2000.0, compute_s=1.0)
    found, free = through(radio, work, 2000)
    begun = float(free.at("started")[4])
    used = (0.5 + radio.idle_w) * begun + 4 * 1.5 + found.joules[:4].sum()
    for share, begins in ((1 + 1e-9, True), (1 - 1e-9, False)):
        _, outcome = through(radio, work, 2000, battery=Battery(used * share))
        assert bool(outcome.at("started")[4] >= 0) == begins


def test_an_exchange_over_nb_iot():
    nbiot, radio, spec = (
        nbiot_of(find_radio("nb-iot")),
        radio_of(find_radio("nb-iot")),
        link_of(find_link("nb-iot")),
    )
    assert (spec.up.rate_bps, spec.down.rate_bps) == (62_500, 26_000)
    cells, (place,) = placed([(spec, 1)])
    work = Work(np.array([50.0]), up_bits=8 * 200.0, down_bits=8 * 300.0)
    outcome = simulate(cells, Server(), [Device(work, place.up, place.down, radio=radio)])
    alone = nbiot.exchange(200, 300)
    assert outcome.took("due", "ended") == pytest.approx([alone.delivered_s], rel=1e-12)
    until = 50.0 + 1000.0
    asleep_w, awake_s = nbiot.sleep_w, alone.seconds
    expected = alone.joules + asleep_w * (until - awake_s)
    assert energy_of(outcome, 0, until).total_j == pytest.approx(expected, rel=1e-12)
    assert radio.tail == ((nbiot.inactivity_s, nbiot.idle_w),)


def test_impossible_payloads_are_refused():
    work = Work(np.zeros(2))
    for up, message in (
        ([1, 2, 3], r"up_bytes has the shape \[3\]; allowed are a number and \[2\]"),
        ([1, -1], "up_bytes: allowed are whole numbers, 0 and more"),
        ([1, 0.5], "up_bytes: allowed are whole numbers, 0 and more"),
    ):
        with pytest.raises(SimulationError, match=message):
            carried(LORA, work, up, 1, GENERATOR)
    with pytest.raises(SimulationError, match="in_flight is 0, allowed is 1 and more"):
        carried(LORA, work, 1, 1, GENERATOR, in_flight=0)
    with pytest.raises(SimulationError, match="server_s is -1, allowed is a number"):
        carried(LORA, work, 1, 1, GENERATOR, server_s=-1)


def test_a_device_without_samples():
    found = carried(LORA, Work(np.zeros(0)), np.zeros(0), 1, GENERATOR)
    assert isinstance(found, Carried)
    assert found.joules.shape == (0,)


def test_sleep_is_in_all_the_currents():
    with pytest.raises(ValueError, match=r"phase 'off' is 0.01 A, and has to be at least sleep_a, 0.02 A"):
        LoRa(7, 0.01, 3.3, 0.044, phases=(Phase("off", 1.0, 0.01),), sleep_a=0.02)
    assert metered(0.25).idle_w == metered(0.25).active_w == 0.25
