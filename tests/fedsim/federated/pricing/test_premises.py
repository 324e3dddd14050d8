"""Clients out of the groups of a fleet."""

import numpy as np
import pytest

from fedsim.federated.pricing import premises_of, pricing_problems
from fedsim.hardware import find_device, find_link, find_radio
from fedsim.hardware.models import link_of, power_of, radio_of, roofline_of
from fedsim.scenario_sections import FleetGroup


def fleet(*groups):
    return tuple(FleetGroup(**{"count": 2, **group}) for group in groups)


def test_clients_are_the_devices_group_by_group():
    found = premises_of(
        fleet(
            {"device": "raspberry-pi-4", "link": "wifi-home"}, {"count": 3, "device": "raspberry-pi-3b-plus"}
        )
    )
    assert found.group_of.tolist() == [0, 0, 1, 1, 1]
    first, second = found.groups
    assert first.link == link_of(find_link("wifi-home"))
    assert first.roofline == roofline_of(find_device("raspberry-pi-4"))
    assert second.link.up.mean_bps == np.inf
    boards = [power_of(find_device(name)) for name in ("raspberry-pi-4", "raspberry-pi-3b-plus")]
    assert [device.power for device in found.devices] == [boards[0]] * 2 + [boards[1]] * 3
    radio = radio_of(find_radio("wifi-2012"))
    assert found.devices[0].radio == radio
    assert found.rest_w == pytest.approx(2 * (2.8 + radio.idle_w) + 3 * 2.48)
    assert found.notes == []


def test_a_cell_is_shared_by_the_groups_that_call_it_alike_and_alone_is_alone():
    found = premises_of(
        fleet(
            {"link": "lte-2012", "cell": "mast"},
            {"link": "ethernet-1g"},
            {"link": "lte-2012", "cell": "mast"},
            {"link": "lte-2012"},
        )
    )
    up = [device.up for device in found.devices]
    assert up[0] == up[1] == up[4] == up[5] != up[6] == up[7]
    shared = find_link("ethernet-1g").sharing != "alone"
    assert (up[2] == up[3]) == shared
    for device in found.devices[:2]:
        assert (found.cells[device.up].rate, found.cells[device.down].rate) == (5.5e6, 24.3e6)


def test_a_radio_of_ones_own_takes_the_place_of_the_links():
    found = premises_of(fleet({"link": "wifi-home", "radio": "wifi-pi-4"}))
    assert found.devices[0].radio == radio_of(find_radio("wifi-pi-4"))


def test_what_is_not_known_is_said():
    found = premises_of(fleet({"link": "wifi-home"}, {"device": "raspberry-pi-4"}))
    assert found.rest_w is None
    assert (found.powered, found.heard) == (False, True)
    assert found.notes == [
        "joules are unavailable as a whole: the powers of the devices of fleet.0 are not known"
    ]


@pytest.mark.parametrize(
    ("group", "key", "said"),
    [
        ({"link": "lora-sf7"}, "fleet.0.link", "is of LoRa, on which rounds are not priced"),
        ({"link": "wifi-home", "radio": "ble"}, "fleet.0.radio", "has to be cellular, Wi-Fi or Ethernet"),
        ({"device": "jetson-tx2"}, "fleet.0.device", "no rate is known of it"),
    ],
)
def test_what_rounds_cannot_be_priced_on_is_told_ahead(group, key, said):
    (problem,) = pricing_problems(fleet(group))
    assert problem.key == key
    assert said in problem.message
    assert not list(pricing_problems(fleet({"device": "raspberry-pi-4", "link": "4g-2021"})))
