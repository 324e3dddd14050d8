import doctest
import math
import threading
import time
from contextlib import suppress

import pytest

from edge.energy import Reading, read_window, window
from edge.energy.ina3221 import Ina3221Meter, rails
from edge.energy.powercap import PowercapMeter, zones

from .sysfs import hwmon_rail, write, zone


@pytest.fixture
def machine(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    zone(tmp_path, "intel-rapl:0:0", "dram")
    zone(tmp_path, "intel-rapl:1", "package-1")
    return tmp_path


def meters(root):
    return [PowercapMeter(zone) for zone in zones(root)]


def threads():
    """Threads that read meters."""
    return sum(thread.name == "energy" for thread in threading.enumerate())


def spend(root, **microjoules):
    for number, value in microjoules.items():
        write(
            root / "class/powercap" / number.replace("z", "intel-rapl:").replace("_", ":") / "energy_uj",
            value,
        )
    time.sleep(0.002)


def test_examples():
    assert doctest.testmod(window) == (0, 2)


def test_all_meters_read_the_same_block(machine):
    with read_window(meters(machine)) as measured:
        assert measured.readings == {}
        spend(machine, z0=2_000_000, z0_0=500_000, z1=1_000_000)
    assert {name: reading.joules for name, reading in measured.readings.items()} == {
        "package-0": 2.0,
        "package-0/dram": 0.5,
        "package-1": 1.0,
    }
    assert measured.total("package").joules == 3.0
    both = measured.total("package", "dram")
    assert (both.joules, both.provenance) == (3.5, "measured")
    assert both.detail == "sum of package-0, package-0/dram, package-1"


def test_a_sum_that_lacks_a_part_is_unavailable(machine):
    with read_window(meters(machine)) as measured:
        spend(machine, z0=2_000_000, z0_0=500_000)  # package-1 stands still
    total = measured.total("package", "dram")
    assert (total.joules, total.provenance) == (None, "unavailable")
    assert "package-1: " in total.detail
    assert measured.total("dram").joules == 0.5
    lacking = measured.total("package", "gpu")
    assert "no meter of gpu" in lacking.detail


@pytest.mark.parametrize("kinds", [(), ("soc", "gpu"), ("external", "package"), ("soc", "external")])
def test_a_sum_that_would_count_twice_is_refused(machine, kinds):
    with read_window(meters(machine)) as measured:
        pass
    with pytest.raises(ValueError, match="any of package, dram and gpu, or soc or external alone"):
        measured.total(*kinds)


def test_without_a_meter_nothing_is_made_up():
    with read_window([]) as measured:
        time.sleep(0.01)
    reading = measured.readings["none"]
    assert (reading.joules, reading.provenance) == (None, "unavailable")
    assert reading.seconds >= 0.01
    assert measured.total("package").provenance == "unavailable"


def test_this_machine_measures_or_says_why_not():
    with read_window() as measured:
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            math.sqrt(2.0)
    assert measured.readings
    for reading in measured.readings.values():
        assert (reading.joules is None) == (reading.provenance == "unavailable")
        assert reading.detail


def test_two_meters_of_one_name_are_refused(machine):
    with pytest.raises(ValueError, match="package-0, package-0"), read_window(meters(machine)[:1] * 2):
        pass


def test_work_that_fails_leaves_no_thread_behind(machine):
    hwmon_rail(machine, 1, "VDD_IN", 5000, 1000)
    running = []
    with suppress(ZeroDivisionError), read_window([*meters(machine), Ina3221Meter(rails(machine)[0])]):
        running.append(threads())
        _ = 1 / 0
    assert running == [4]
    assert threads() == 0


def test_a_meter_that_cannot_start_stops_those_that_did(machine):
    first, second, *_ = meters(machine)
    second.start()
    with pytest.raises(RuntimeError, match="already"), read_window([first, second]):
        pass
    assert threads() == 1
    second.stop()


@pytest.mark.parametrize(
    ("joules", "provenance"),
    [(None, "measured"), (1.0, "unavailable"), (-1.0, "measured"), (math.nan, "measured")],
)
def test_a_reading_that_cannot_be_is_refused(joules, provenance):
    with pytest.raises(ValueError, match=" J "):
        Reading(joules, 1.0, provenance, "")
