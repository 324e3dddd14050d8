"""The presets that ship: each number has a source, and what the sources say of them comes out again."""

import re
from pathlib import Path

import pytest

import fedsim.hardware
from fedsim.hardware import (
    Device,
    Link,
    Preset,
    Radio,
    devices,
    find_device,
    find_link,
    find_radio,
    links,
    quantities,
    radio_of_link,
    radios,
    unverified,
)
from fedsim.hardware.models import ble_of, lora_of, nbiot_of, power_of, radio_of, roofline_of
from fedsim.hardware.radio import energy
from fedsim.hardware.radio_presets import NbIotRadio

ALL: list[Device | Radio | Link] = [*devices().values(), *radios().values(), *links().values()]
TEN_KB = 80_000  # bits


def by_name(preset: Preset) -> str:
    return str(preset)


def test_each_file_is_a_preset() -> None:
    files = sorted(Path(fedsim.hardware.__file__).parent.glob("*/*.toml"))
    assert files == sorted(preset.file for preset in ALL)
    assert {"raspberry-pi-4", "jetson-orin-nano-torch", "esp32-s3", "stm32l4", "server-8core"} <= set(
        devices()
    )
    assert {"lte-2012", "4g-2021", "5g-mmwave-2021", "wifi-2012", "ble", "lora", "nb-iot"} <= set(radios())
    assert {"ethernet-1g", "wifi-home", "lte-2012", "4g-2021", "lora-sf7", "lora-sf12"} <= set(links())


@pytest.mark.parametrize("preset", ALL, ids=by_name)
def test_each_number_has_a_source_and_each_source_a_number(preset: Preset) -> None:
    cited = {quantity.source for _, quantity in quantities(preset)}
    assert cited == set(preset.sources)
    assert len(preset.title) <= 90
    assert not preset.title.endswith("*")


@pytest.mark.parametrize("preset", ALL, ids=by_name)
def test_what_is_assumed_and_not_verified_has_no_good_grade(preset: Preset) -> None:
    for key, quantity in quantities(preset):
        if quantity.how == "assumed" or quantity.verified is False:
            assert quantity.trust[0] not in "A", key


def test_what_presets_name_is_there() -> None:
    for device in devices().values():
        for name in device.radios:
            assert find_radio(name, device.file.parent).name == name
    for link in links().values():
        radio = radio_of_link(link)
        assert radio is not None
        if link.spreading_factor is not None:
            assert link.name == f"lora-sf{link.spreading_factor}"
            assert lora_of(radio, round(link.spreading_factor.si)).spreading_factor in range(7, 13)


@pytest.mark.parametrize("device", devices().values(), ids=by_name)
def test_the_range_of_a_rate_holds_what_was_measured(device: Device) -> None:
    for name, measured in device.networks.items():
        if measured.work is None or device.compute is None:
            continue
        low, high = device.compute.rate.si_range or [device.compute.rate.si] * 2
        assert 0.98 * low <= measured.work.si / measured.time.si <= 1.02 * high, name


@pytest.mark.parametrize("device", devices().values(), ids=by_name)
def test_measured_energies_agree_with_the_power(device: Device) -> None:
    for name, measured in device.networks.items():
        if measured.energy is None:
            continue
        assert device.power is not None
        low, high = device.power.active.si_range or [device.power.active.si] * 2
        assert 0.99 * low <= measured.energy.si / measured.time.si <= 1.01 * high, name


@pytest.mark.parametrize(
    ("device", "network", "nanojoules"),
    [
        ("esp32-s3", "mobilenet-v3", 1.45),
        ("esp32-s3", "mcunet", 0.97),
        ("esp32-s3", "efficientnet", 1.96),
        ("esp32-s3", "squeezenet", 0.67),
        ("stm32l4", "mlperf-tiny-ic-int8", 0.85),
        ("stm32l4", "mlperf-tiny-vww-int8", 1.34),
        ("stm32u5", "mlperf-tiny-ic-int8", 0.29),
        ("stm32u5", "mlperf-tiny-vww-int8", 0.45),
    ],
)
def test_nanojoules_for_each_mac(device: str, network: str, nanojoules: float) -> None:
    measured = find_device(device).networks[network]
    assert measured.energy is not None
    assert measured.work is not None
    assert 1e9 * measured.energy.si / measured.work.si == pytest.approx(nanojoules, abs=0.006)


@pytest.mark.parametrize(
    ("device", "joules"),
    [
        ("raspberry-pi-3b-plus", 1.8),
        ("raspberry-pi-4", 0.64),
        ("raspberry-pi-5", 0.27),
        ("jetson-nano-torch", 0.6),
        ("jetson-nano-tensorrt", 0.06),
        ("jetson-orin-nano-torch", 0.051),
        ("jetson-orin-nano-tensorrt", 0.0144),
        ("esp32-s3", 1.0),
        ("stm32l4", 1.0),
        ("stm32u5", 0.35),
    ],
)
def test_joules_for_each_gmac(device: str, joules: float) -> None:
    preset = find_device(device)
    assert 1e9 * power_of(preset).active_w / roofline_of(preset).macs_per_s == pytest.approx(joules, rel=0.05)


def test_speed_of_raspberry_pis_to_one_another() -> None:
    times = {
        name: find_device(name).networks["ssd-mobilenet-v2"].time.si
        for name in ("raspberry-pi-3b-plus", "raspberry-pi-5")
    }
    four = 0.1126
    rates = {name: roofline_of(find_device(name)).macs_per_s for name in (*times, "raspberry-pi-4")}
    for name, seconds in times.items():
        lowest, highest = roofline_of(find_device(name)).macs_per_s_range or (0, 0)
        assert lowest <= rates["raspberry-pi-4"] * four / seconds <= highest
        assert lowest <= rates[name] <= highest


def test_lte_of_2012_at_its_median_rate_up() -> None:
    radio = radio_of(find_radio("lte-2012"))
    assert radio.active_w + radio.up_w_per_bps * 5.5e6 == pytest.approx(3.699, abs=5e-4)


@pytest.mark.parametrize(
    ("slower", "receiving", "rate"),
    [
        ("4g-2021", True, 187),
        ("5g-low-band-2021", True, 189),
        ("4g-2021", False, 39.9),
        ("5g-low-band-2021", False, 122.7),
    ],
)
def test_rates_from_which_mmwave_takes_less(slower: str, receiving: bool, rate: float) -> None:
    mmwave, other = (radio_of(find_radio(name)) for name in ("5g-mmwave-2021", slower))
    slope = "down_w_per_bps" if receiving else "up_w_per_bps"
    base = "receiving_w" if receiving else "active_w"
    crossing = (getattr(mmwave, base) - getattr(other, base)) / (
        getattr(other, slope) - getattr(mmwave, slope)
    )
    assert crossing / 1e6 == pytest.approx(rate, abs=0.5 if receiving else 0.05)


@pytest.mark.parametrize(
    ("radio", "mbps", "transfer", "promotion", "tail"),  # mJ
    [
        ("wifi-2012", 10, 23.7, 9.8, 28),
        ("lte-2012", 5.6, 53, 315, 12_270),
        ("4g-2021", 20, 8.2, None, 1816),
        ("5g-low-band-2021", 20, 5.8, 1007, 2704),
        ("5g-low-band-sa-2021", 20, 5.8, 84, 6167),
        ("5g-mmwave-2021", 100, 3.4, 2849, 11_466),
    ],
)
def test_what_ten_kilobytes_cost(
    radio: str, mbps: float, transfer: float, promotion: float | None, tail: float
) -> None:
    end = 10 + TEN_KB / (mbps * 1e6)
    cost = energy(radio_of(find_radio(radio)), [10], [end], [TEN_KB], [0], 60)
    assert 1e3 * cost.active_j[0] == pytest.approx(transfer, rel=0.015)
    assert 1e3 * cost.tail_j[0] == pytest.approx(tail, rel=0.015)
    if promotion is not None:
        assert 1e3 * cost.promotion_j[0] == pytest.approx(promotion, rel=0.015)


def test_what_ten_kilobytes_cost_without_a_state_machine() -> None:
    assert 1e3 * ble_of(find_radio("ble")).energy(10_000) == pytest.approx(1.7, abs=0.05)
    lora = lora_of(find_radio("lora"), 7)
    assert len(lora.frames(10_000)) == 46
    assert lora.transmit_energy(10_000) == pytest.approx(2.4, abs=0.05)
    assert lora.duty_cycle_wait(lora.airtime(10_000)) / 60 == pytest.approx(28, abs=0.6)


def test_tails_of_4g_in_2021() -> None:
    (phase,) = find_radio("4g-2021").tail  # type: ignore[union-attr]
    assert phase.time.range is not None
    assert phase.power.range is not None
    assert phase.time.range[0] * phase.power.range[0] / 1e3 == pytest.approx(0.33)
    assert phase.time.range[1] * phase.power.range[1] / 1e3 == pytest.approx(1.816, abs=1e-3)


@pytest.mark.parametrize(
    ("factor", "size", "airtime", "millijoules", "duty_cycled"),
    [
        (7, 222, 368.9, 53.6, 48),
        (7, 51, 118.0, 17.1, 35),
        (9, 115, 676.9, 98, 14),
        (12, 51, 2793.5, 406, 1.5),
    ],
)
def test_time_on_air(factor: int, size: int, airtime: float, millijoules: float, duty_cycled: float) -> None:
    lora = lora_of(find_radio("lora"), factor)
    assert 1e3 * lora.airtime(size) == pytest.approx(airtime, abs=0.05)
    assert 1e3 * lora.transmit_energy(size) == pytest.approx(millijoules, abs=0.5)
    assert lora.duty_cycle_goodput(size) == pytest.approx(duty_cycled, rel=0.04)


def test_nb_iot_is_within_a_tenth_of_the_exchange_that_was_measured() -> None:
    radio = find_radio("nb-iot")
    assert isinstance(radio, NbIotRadio)
    assert radio.exchange is not None
    modelled = nbiot_of(radio).exchange(radio.exchange.up.si, radio.exchange.down.si)
    assert modelled.joules == pytest.approx(radio.exchange.energy.si, rel=0.1)
    assert radio.exchange.energy.si == pytest.approx(0.27, abs=0.005)


def test_an_unverified_number_says_so() -> None:
    assert unverified(find_radio("lte-2012")) == [
        "radio lte-2012: tail.0.time 11.576 s (10.12 to 11.576) is not verified "
        "(J. Huang et al., A close examination of performance and power characteristics of 4G LTE networks, "
        "MobiSys 2012; Table 3; ARO has 0.1 s, 0.02 s and 10 s)"
    ]
    assert unverified(find_radio("5g-mmwave-2021")) == []
    assumed = unverified(find_link("wifi-home"))
    assert len(assumed) == 6
    assert all(line.endswith("(Assumed: a round number of the right size. Set your own)") for line in assumed)


def test_numbers_known_to_be_wrong_are_not_there() -> None:
    for preset in ALL:
        for key, quantity in quantities(preset):
            assert quantity.value != 483.39, f"{preset}: {key} is a misprint of 438.39"
            assert not re.search("COSCO|CloudSim", quantity.citation), key
