import numpy as np
import pytest

from edge.schedule import Schedule
from fedsim.fleet import cells_of, device_plans, fleet_problems, remarks, timeless
from fedsim.hardware import find_link
from fedsim.hardware.models import link_of
from fedsim.scenario_sections import FleetGroup, ServerSection


def groups(*values):
    return tuple(FleetGroup.model_validate({"count": 1, **one}) for one in values)


FLEET = groups(
    {"count": 2, "link": "lte-2012", "arrivals": {"kind": "poisson", "rate_hz": 2.0}},
    {"count": 1},
    {"count": 1, "link": "wifi-home", "arrivals": {"kind": "closed", "pause_s": 0.5}, "in_flight": 3},
)


def test_each_group_has_a_link_of_its_own():
    expected = {
        name: link_of(find_link(link)) for name, link in (("link-0", "lte-2012"), ("link-2", "wifi-home"))
    }
    assert cells_of(FLEET) == expected


def test_devices_know_their_link_and_when_samples_are_due(tmp_path):
    plans = list(device_plans(FLEET, 10, 7, None, tmp_path))
    assert [plan.client for plan in plans] == [f"device-{number}" for number in range(4)]
    assert [plan.cell for plan in plans] == ["link-0", "link-0", None, "link-2"]
    assert [plan.in_flight for plan in plans] == [1, 1, 1, 3]
    schedules = [plan.schedule and Schedule.read(plan.schedule) for plan in plans]
    assert [one and (len(one.seconds), one.paused) for one in schedules] == [
        (3, False),
        (3, False),
        None,
        (2, True),
    ]
    assert not np.array_equal(schedules[0].seconds, schedules[1].seconds)
    assert schedules[3].seconds.tolist() == [0.5, 0.5]
    again = tmp_path / "again"
    again.mkdir()
    same = [Schedule.read(plan.schedule) for plan in device_plans(FLEET, 10, 7, None, again) if plan.schedule]
    assert np.array_equal(same[0].seconds, schedules[0].seconds)


def test_what_nobody_has_verified_is_said():
    said = remarks(FLEET)
    assert any("link lte-2012" in line and "35 ms" in line for line in said)
    assert any("radio lte-2012: tail.0.time 11.576 s" in line for line in said)  # the radio of the link
    assert not any("radio lte-2012" in line for line in remarks(FLEET, radios=False))
    assert not any(
        "radio lte-2012" in line for line in remarks(groups({"link": "lte-2012", "radio": "ethernet"}))
    )
    assert not remarks(groups({}))


@pytest.mark.parametrize(
    ("group", "key", "message"),
    [
        ({"link": "lte-2021"}, "fleet.0.link", "did you mean 'lte-2012'"),
        ({"link": "nowhere.toml"}, "fleet.0.link", "nowhere.toml"),
        ({"arrivals": {"kind": "poison"}}, "fleet.0.arrivals", "did you mean 'poisson'"),
        ({"arrivals": {"kind": "poisson", "rate_hz": -1}}, "fleet.0.arrivals", "rate_hz is -1"),
        (
            {"arrivals": {"kind": "listed", "at_s": [0.0, 1.0]}},
            "fleet.0.arrivals",
            "there are 2 of them, and a device has 10 samples",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(group, key, message):
    (problem,) = fleet_problems(groups(group), 10)
    assert problem.key == key
    assert message in problem.message
    assert not list(fleet_problems(FLEET, 10))
    assert not list(fleet_problems(FLEET, None))


@pytest.mark.parametrize(
    ("group", "key", "message"),
    [
        ({"link": "lte-2012", "radio": "lora"}, "fleet.0.radio", "radio lora says itself how long payloads"),
        (
            {"link": "lora-sf9", "radio": "4g-2021"},
            "fleet.0.radio",
            "needs a link with a rate, and link lora-sf9",
        ),
        (
            {"link": "ble", "cell": "home"},
            "fleet.0.cell",
            "each device of radio ble has a channel of its own",
        ),
    ],
)
def test_links_and_radios_that_do_not_go_together_are_told(group, key, message):
    found = {problem.key: problem.message for problem in fleet_problems(groups(group), 10)}
    assert message in found[key]


def test_what_a_link_says_in_vain_is_told(tmp_path):
    head = (
        'title = "One"\nradio = "RADIO"\nsharing = "alone"\n[sources]\nme = "I"\n[default]\nsource = "me"\n'
    )
    head += 'how = "assumed"\ntrust = "D"\nverified = false\n'
    slow = tmp_path / "slow.toml"
    slow.write_text(f'{head.replace("RADIO", "ble")}[up]\nloss = {{value = 9, unit = "%"}}\n[down]\n')
    (problem,) = fleet_problems(groups({"link": str(slow)}), 10)
    assert "has loss, which is of a link with a rate" in problem.message
    spread = tmp_path / "spread.toml"
    factor = '[spreading_factor]\nvalue = 9\nunit = "1"\n'
    spread.write_text(f"{head.replace('RADIO', 'ethernet')}[up]\n[down]\n{factor}")
    (problem,) = fleet_problems(groups({"link": str(spread)}), 10)
    assert "has a spreading factor, which is of LoRa, and the radio is radio ethernet" in problem.message


def test_devices_and_servers_without_any_time_are_told():
    fleet = groups({"device": "raspberry-pi-4"}, {"device": "phone-2020"})
    found = list(timeless(fleet, ServerSection(device="server-8core")))
    assert [problem.key for problem in found] == ["fleet.1.device", "server.device"]
    assert all("fedsim calibrate" in problem.message for problem in found)
