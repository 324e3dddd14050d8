"""Models that are made of presets, and what is said where a preset lacks a number."""

from pathlib import Path

import pytest

from edge.link import LinkSpec
from fedsim.errors import HardwareError
from fedsim.hardware import devices, find_device, find_link, find_radio, links, radios
from fedsim.hardware.compute import Coding, Layer
from fedsim.hardware.models import (
    battery_of,
    ble_of,
    coding_of,
    link_of,
    lora_of,
    nbiot_of,
    power_of,
    radio_of,
    roofline_of,
    serving_of,
    stages_of,
    table_of,
)


def test_time_of_a_network_comes_with_its_range() -> None:
    four = roofline_of(find_device("raspberry-pi-4"))
    layers = [Layer(macs=100_000_000, bytes=0)]
    assert four.seconds(layers) == pytest.approx(0.004 + 0.01)
    assert four.seconds_range(layers) == pytest.approx((0.004 + 0.1 / 29, 0.004 + 0.1 / 1.5))
    assert table_of(find_device("raspberry-pi-4")).seconds("resnet18") == pytest.approx(0.1003)


@pytest.mark.parametrize("name", ["jetson-tx2", "phone-2020", "server-8core"])
def test_where_no_rate_was_published_none_is_guessed(name: str) -> None:
    with pytest.raises(HardwareError) as caught:
        roofline_of(find_device(name))
    message = str(caught.value)
    assert message.startswith(f"device {name}: no rate is known of it")
    assert f"{name}.toml has no compute; measure it (fedsim calibrate)" in message


def test_what_is_measured_is_told_where_there_is_no_rate() -> None:
    tx2 = find_device("jetson-tx2")
    with pytest.raises(HardwareError, match="measured are nas-bench-201-0"):
        roofline_of(tx2)
    assert table_of(tx2).seconds("nas-bench-201-0") == pytest.approx(0.00581)


def test_a_server_that_is_to_be_calibrated() -> None:
    server = find_device("server-8core")
    with pytest.raises(HardwareError, match="its powers are not known"):
        power_of(server)
    with pytest.raises(HardwareError, match="no network was measured on it"):
        table_of(server)
    assert battery_of(server) is None


def test_what_was_not_measured_of_a_split_network_is_told(tmp_path: Path) -> None:
    time = '{value = 1.5, unit = "ms", source = "me", how = "measured", trust = "B", verified = true}'
    text = f"""
title = "A board"
[sources]
me = "a stopwatch"
[compute]
overhead = {time}
layer_overhead = {time}
rate = {time.replace("ms", "GMAC/s")}
[coding.encode]
fixed = {time}
per_symbol = {time}
[coding.decode]
fixed = {time}
per_symbol = {time.replace("1.5", "2")}
[splits.mine]
head = {time}
encode = {time}
"""
    (tmp_path / "board.toml").write_text(text)
    board = find_device("board.toml", tmp_path)
    assert roofline_of(board).seconds([Layer(0, 0)] * 3) == pytest.approx(0.006)
    assert coding_of(board) == (Coding(0.0015, 0.0015), Coding(0.0015, 0.002))
    assert coding_of(find_device("raspberry-pi-4")) is None
    assert stages_of(board, "mine").times == {"head": 0.0015, "encode": 0.0015}
    with pytest.raises(HardwareError, match="the server's half of 'mine' was not measured on it"):
        serving_of(board, "mine")
    for ask in (stages_of, serving_of):
        with pytest.raises(HardwareError, match=r"'yours' was not measured on it \(measured are mine\)"):
            ask(board, "yours")
    (tmp_path / "board.toml").write_text(f"{text}decode.single = {time}\n")
    with pytest.raises(HardwareError, match=r"splits.mine.decode.fixed: is missing"):
        find_device("board.toml", tmp_path)


def test_battery_of_a_phone() -> None:
    battery = battery_of(find_device("phone-2020"))
    assert battery is not None
    assert battery.joules == pytest.approx(4250 * 3.85 * 3.6)


def test_each_device_and_radio_and_link_makes_its_models() -> None:
    for device in devices().values():
        if device.power is not None:
            assert power_of(device).active_w >= power_of(device).base_w
        if device.compute is not None:
            assert roofline_of(device).macs_per_s > 0
    makers = {"lora": lora_of, "ble": ble_of, "nb-iot": nbiot_of}
    for radio in radios().values():
        makers.get(radio.kind, radio_of)(radio)
    for link in links().values():
        assert isinstance(link_of(link), LinkSpec)


def test_the_phone_is_taken_off_the_power_of_its_radio() -> None:
    radio = find_radio("4g-2021")
    assert radio_of(radio).active_w == pytest.approx(0.4416)
    assert radio_of(radio).receiving_w == pytest.approx(0.3966)
    assert radio_of(radio).tail == (pytest.approx((10.2, 0.178)),)
    assert radio_of(radio).idle_drx_s == 1.28
    lte = radio_of(find_radio("lte-2012"))
    assert (lte.active_w, lte.up_w_per_bps) == pytest.approx((1.28804, 438.39e-9))
    assert lte.receiving_w == lte.active_w


@pytest.mark.parametrize(
    ("make", "name", "complaint"),
    [
        (radio_of, "lora", "kind = lora: has to be cellular, wifi, ethernet or nb-iot for"),
        (lora_of, "ble", "kind = ble: has to be lora for this use"),
        (ble_of, "nb-iot", "kind = nb-iot: has to be ble for this use"),
        (nbiot_of, "lte-2012", "kind = cellular: has to be nb-iot for this use"),
    ],
)
def test_a_radio_of_another_kind(make, name: str, complaint: str) -> None:
    with pytest.raises(HardwareError, match=complaint):
        make(find_radio(name))


def test_lora_has_a_longest_payload_at_each_spreading_factor() -> None:
    radio = find_radio("lora")
    longest = [lora_of(radio, factor).frame_payload_bytes for factor in range(7, 13)]
    assert longest == [222, 222, 115, 51, 51, 51]
    assert (lora_of(radio).receive_a, lora_of(radio).sleep_a) == pytest.approx((9.7e-3, 45e-6))
    with pytest.raises(HardwareError, match=r"max_payload: has no sf6; there are sf7, sf8"):
        lora_of(radio, 6)
    assert lora_of(radio).spreading_factor == 7
    fit = lora_of(radio).fits(4096, 10)
    assert not fit.fits
    assert "19 frames of SF7" in fit.reason


def test_a_link_by_its_rates() -> None:
    spec = link_of(find_link("lte-2012"))
    assert (spec.up.rate_bps, spec.down.rate_bps, spec.sharing) == (5.5e6, 24.3e6, "processor")
    assert spec.up.delay_s == pytest.approx(0.035)


def test_an_nb_iot_is_a_link_with_a_rate_and_a_radio_of_states() -> None:
    spec = link_of(find_link("nb-iot"))
    assert (spec.up.rate_bps, spec.down.rate_bps, spec.sharing) == (62_500, 26_000, "alone")
    radio = radio_of(find_radio("nb-iot"))
    assert (radio.promotion_s, radio.tail_s, radio.idle_w) == (3, 10, 15e-6)
    assert radio.promotion_s * radio.promotion_w == pytest.approx(0.055 * 3.6)
    for name in ("lora-sf7", "ble"):
        assert link_of(find_link(name)).up.rate_bps is None


def test_a_link_by_a_trace(tmp_path: Path) -> None:
    text = 'title = "Drive"\n[up]\ntrace = "up.csv"\n[down]\n'
    (tmp_path / "drive.toml").write_text(text)
    (tmp_path / "up.csv").write_text("0,8\n1,16\n")
    link = find_link("drive.toml", tmp_path)
    spec = link_of(link)
    assert spec.up.trace is not None
    assert spec.up.trace.finish(0.0, 12e6) == pytest.approx(1.25)
    assert spec.down.rate_bps is None
    (tmp_path / "up.csv").write_text("0,8\n1,fast\n")
    with pytest.raises(HardwareError, match=r"drive.toml: trace .*up.csv, line 2"):
        link_of(link)
