from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedsim.hardware.battery import Battery
from fedsim.hardware.power import DevicePower
from fedsim.hardware.radio import RadioModel
from fedsim.simulator.energy import emptied, energy_of
from fedsim.simulator.fleet import ALWAYS_ON, Cell, Device, Server, Work, simulate

POWER = DevicePower(2.8, 6.4)
RADIO = RadioModel(
    idle_w=0.01,
    promotion_s=0.26,
    promotion_w=1.2,
    active_w=1.3,
    up_w_per_bps=4e-7,
    down_w_per_bps=5e-8,
    tail=((1.0, 1.0), (9.0, 0.5)),
    idle_drx_s=1.28,
)


def fleet(at, radio=RADIO, **work):
    values = {"compute_s": 0.5, "up_bits": 1e6, "down_bits": 2e5, **work}
    return Device(Work(np.asarray(at, np.float64), **values), 0, 1, radio=radio, power=POWER)


def simulated(*devices, each_s=0.1):
    return simulate([Cell(2e6), Cell(1e6)], Server(each_s=each_s), devices)


def test_one_sample_by_hand():
    found = energy_of(simulated(fleet([1.0])), 0, 20.0)
    assert found.compute_j == pytest.approx([3.6 * 0.5])
    promotion, bits, tail = (1.2 - 0.01) * 0.26, (1.3 - 0.01) * 0.5 + 0.4, (1.0 - 0.01) * 0.1
    assert found.up_j == pytest.approx([promotion + bits + tail])  # the tail lasts until the answer
    assert found.down_j == pytest.approx([(1.3 - 0.01) * 0.2 + 0.01 + 0.99 * 1.0 + 0.49 * 9.0])
    assert found.base_j == pytest.approx(2.8 * 20)
    radio = 0.01 * 20 + found.up_j.sum() + found.down_j.sum()
    assert found.total_j == pytest.approx(2.8 * 20 + 1.8 + radio)


def test_a_tail_is_not_paid_for_each_sample():
    often = energy_of(simulated(fleet(np.arange(0, 40, 4.0))), 0, 80.0)
    rarely = energy_of(simulated(fleet(np.arange(0, 400, 40.0))), 0, 440.0)
    assert often.radio.promoted.sum() == 1
    assert rarely.radio.promoted.sum() == 10
    assert rarely.up_j.sum() + rarely.down_j.sum() > 1.5 * (often.up_j.sum() + often.down_j.sum())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_parts_are_the_whole(seed, in_flight):
    generator = np.random.default_rng(seed)
    devices = [
        Device(
            Work(
                np.sort(generator.random(5)) * 60,
                compute_s=generator.random(5),
                up_bits=generator.random(5) * 1e6 + 1,
                down_bits=generator.random(5) * 1e5 + 1,
                paged=generator.random(5),
            ),
            0,
            1,
            in_flight=in_flight,
            radio=RADIO,
            power=POWER,
        )
        for _ in range(3)
    ]
    outcome = simulated(*devices, each_s=float(generator.random()) * 5)
    for number in range(3):
        found = energy_of(outcome, number, 300.0)
        whole = (2.8 + 0.01) * 300 + found.compute_j.sum() + found.up_j.sum() + found.down_j.sum()
        assert found.total_j == pytest.approx(whole, rel=1e-9)
        # What the simulator lets a radio wait for is what the radio's model charges it for.
        promoted = int(found.radio.promoted.sum())
        assert found.radio.promotion_s.sum() == pytest.approx(promoted * 0.26, rel=1e-9)


def test_receiving_has_a_power_of_its_own():
    radio = replace(RADIO, active_down_w=0.8)
    apart = energy_of(simulated(fleet([1.0], radio)), 0, 20.0)
    both = energy_of(simulated(fleet([1.0])), 0, 20.0)
    assert both.down_j - apart.down_j == pytest.approx([0.5 * 0.2])
    assert both.up_j == pytest.approx(apart.up_j)


def test_who_waits_for_its_turn_is_not_active():
    """Ten that send a second each, one behind the other: each pays for its own second."""
    devices = [fleet([0.0], up_bits=1e6, down_bits=0.0, compute_s=0.0) for _ in range(10)]
    found = simulate([Cell(1e6, "fifo"), Cell()], Server(), devices)
    spent = [energy_of(found, number).bits_j.sum() for number in range(10)]
    assert spent == pytest.approx([(1.3 - 0.01) * 1.0 + 0.4] * 10)


def test_what_never_happened_costs_nothing():
    late = fleet([0.0, 100.0])
    gone = replace(late, until_s=50.0)
    found = energy_of(simulated(gone), 0, 120.0)
    assert found.compute_j.tolist() == pytest.approx([1.8, 0.0])
    assert found.up_j[1] == found.down_j[1] == 0
    nothing = energy_of(simulated(fleet([])), 0, 10.0)
    assert nothing.total_j == pytest.approx(28.1)


def on_battery(device, joules):
    return replace(device, battery=Battery(joules))


def test_a_device_with_an_empty_battery_begins_nothing():
    """3 W for a second of each ten, 1 W at rest: 13 J a sample, so that 50 J are gone in the fourth pause."""
    device = replace(fleet(np.arange(0, 100, 10.0), ALWAYS_ON, compute_s=1.0), power=DevicePower(1.0, 4.0))
    found = simulated(on_battery(device, 50.0))
    assert (~np.isnan(found.at("started"))).sum() == 4
    assert found.empty_s == pytest.approx([40.0])
    assert np.isnan(simulated(on_battery(device, 500.0)).empty_s).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_the_battery_is_charged_what_the_energy_model_says(seed, in_flight):
    """Two ways of reckoning: along the way, and behind it from all times."""
    generator = np.random.default_rng(seed)
    at = np.sort(generator.random(20)) * 200
    device = replace(
        fleet(
            at, compute_s=generator.random(20), up_bits=generator.random(20) * 1e6, paged=generator.random(20)
        ),
        in_flight=in_flight,
    )
    free = simulated(device, each_s=0.3)
    last = int(generator.integers(1, 20))
    # What is under way is charged when it is done.
    assume((free.at("ended")[:last] < free.at("started")[last]).all())
    begun = float(free.at("started")[last])
    before = simulated(replace(device, until_s=begun), each_s=0.3)
    until_s = max(begun, float(np.nanmax(before.at("down_done"))))
    used = energy_of(before, 0, until_s).total_j
    enough = simulated(on_battery(device, used * 1.001 + 1e-6), each_s=0.3)
    empty = simulated(on_battery(device, used * 0.999), each_s=0.3)
    assert not np.isnan(enough.at("started")[last])
    assert np.isnan(empty.at("started")[last])


def test_a_battery_is_empty_when_it_is():
    """10 J at 1 W: nobody begins anything when they are gone."""
    device = replace(fleet([0.0], ALWAYS_ON, compute_s=0.0), power=DevicePower(1.0, 4.0))
    (found,) = emptied(simulated(on_battery(device, 10.0)), 3600.0).empty_s
    assert found == pytest.approx(10.0)
    assert np.isnan(emptied(simulated(on_battery(device, 10.0)), 9.0).empty_s).all()
    work = replace(device, work=replace(device.work, at_s=np.array([0.0, 3600.0]), compute_s=1.0))
    (found,) = emptied(simulated(on_battery(work, 10.0)), 7200.0).empty_s
    assert found == pytest.approx(10.0 - 3.0)  # not when it wakes for the second sample


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0.05, 1.2))
def test_until_a_battery_is_empty_its_charge_is_used(seed, in_flight, share):
    """What the energy model says of the time until then is the charge."""
    generator = np.random.default_rng(seed)
    at = np.sort(generator.random(12)) * 100
    device = replace(
        fleet(at, replace(RADIO, active_down_w=0.8), paged=generator.random(12)), in_flight=in_flight
    )
    whole = energy_of(simulated(device), 0, 150.0).total_j
    outcome = simulated(on_battery(device, share * whole))
    (found,) = emptied(outcome, 150.0).empty_s
    if np.isnan(found):
        assert energy_of(outcome, 0, 150.0).total_j < share * whole
        return
    jobs = outcome.jobs_of(0)
    for begin, end in (("started", "computed"), ("up_begun", "up_done"), ("down_begun", "down_done")):
        assume(not ((jobs[begin] < found + 0.3) & (jobs[end] > found)).any())  # 0.3: a promotion
    over = jobs["ended"] <= found
    kept = replace(outcome, jobs=jobs[over])
    assert energy_of(kept, 0, float(found)).total_j == pytest.approx(share * whole, rel=1e-6)
