import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.energy.meter import MeterError
from edge.energy.powercap import PowercapMeter, Zone, find, zones

from .sysfs import RANGE_UJ, an_ordinary_user, write, zone


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def machine(tmp_path):
    """Two packages; what is part of them, beside them, above them, and the same by another way."""
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:0:1", "uncore", 2)
    zone(tmp_path, "intel-rapl:0:2", "dram", 3)
    zone(tmp_path, "intel-rapl:1", "package-1", 4)
    zone(tmp_path, "intel-rapl:2", "psys", 5)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 6)
    (tmp_path / "class/powercap/intel-rapl").mkdir()
    return tmp_path


def test_packages_and_the_memory_beside_them_count_and_nothing_twice(machine):
    assert [(zone.name, zone.what) for zone in zones(machine)] == [
        ("package-0", "package"),
        ("package-0/dram", "dram"),
        ("package-1", "package"),
    ]


def test_zones_that_lie_in_each_other_are_the_same(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", folder="class/powercap/intel-rapl")
    zone(tmp_path, "intel-rapl:0:1", "dram", folder="class/powercap/intel-rapl/intel-rapl:0")
    flat = tmp_path / "class/powercap"
    (flat / "intel-rapl:0").symlink_to(flat / "intel-rapl/intel-rapl:0")
    (flat / "intel-rapl:0:1").symlink_to(flat / "intel-rapl/intel-rapl:0/intel-rapl:0:1")
    assert [zone.name for zone in zones(tmp_path)] == ["package-0", "package-0/dram"]
    (flat / "intel-rapl:0").unlink()
    (flat / "intel-rapl:0:1").unlink()
    assert [zone.name for zone in zones(tmp_path)] == ["package-0", "package-0/dram"]


def test_a_container_is_given_a_copy(tmp_path):
    hidden = tmp_path / "sys/class/powercap"
    hidden.mkdir(parents=True)
    (hidden / "intel-rapl:0").symlink_to(tmp_path / "masked")
    zone(tmp_path / "zeus_sys", "intel-rapl:0", "package-0", folder="class/powercap/intel-rapl")
    found = find((tmp_path / "sys", tmp_path / "zeus_sys"))
    assert found.state == "yes"
    assert [meter.name for meter in found.meters] == ["package-0"]


def test_where_there_is_none_the_places_are_named(tmp_path):
    found = find((tmp_path / "a", tmp_path / "b"))
    assert (found.state, found.meters) == ("no", ())
    assert f"{tmp_path}/a/class/powercap or {tmp_path}/b/class/powercap" in found.detail


@pytest.mark.parametrize("file", ["name", "max_energy_range_uj"])
def test_a_zone_without_name_or_range_is_named(machine, file):
    (machine / "class/powercap/intel-rapl:1" / file).unlink()
    with pytest.raises(MeterError, match="intel-rapl:1 has no name or no max_energy_range_uj"):
        zones(machine)
    assert (find((machine,)).state, find((machine,)).meters) == ("no", ())


def test_a_range_of_nothing_is_refused(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", range_uj=0)
    with pytest.raises(MeterError, match="max_energy_range_uj is 0, expected more than 0"):
        zones(tmp_path)


def test_a_window_reads_what_the_counter_moved(machine):
    (first, *_) = zones(machine)
    clock = Clock()
    meter = PowercapMeter(first, clock=clock)
    for used in (1.5, 0.25):
        meter.start()
        before = first.read()
        clock.now += 2.0
        write(first.folder / "energy_uj", before + int(used * 1e6))
        reading = meter.stop()
        assert (reading.joules, reading.seconds, reading.provenance) == (used, 2.0, "measured")
    assert str(first.folder) in reading.detail


@given(
    st.lists(st.integers(0, 999_999), min_size=1, max_size=12),
    st.integers(0, 999_999),
)
@settings(max_examples=30)
def test_any_number_of_wraps_is_seen_while_each_is(steps, beginning):
    with tempfile.TemporaryDirectory() as folder:
        counter = zone(Path(folder), "intel-rapl:0", "package-0", beginning, range_uj=1_000_000)
        clock = Clock()
        # At most 0.1 W, so that the counter of 1 J wraps in 10 s; it is looked at every 9 s.
        meter = PowercapMeter(zones(Path(folder))[0], bound_w=0.1, interval_s=3600, clock=clock)
        meter.start()
        state = beginning
        for step in steps:
            state += step
            write(counter, state % 1_000_000)
            clock.now += 9.0
            meter.sample()
        reading = meter.stop()
    if sum(steps):
        assert reading.joules == pytest.approx(sum(steps) / 1e6, abs=1e-9)
    else:
        assert reading.provenance == "unavailable"


def test_wraps_are_seen_without_being_asked_for(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=1_000_000)
    (only,) = zones(tmp_path)
    looks = []

    class Watched(Zone):
        def read(self):
            looks.append(value := super().read())
            return value

    watched = Watched(only.folder, only.name, only.what, only.range_uj)
    meter = PowercapMeter(watched, bound_w=0.001, interval_s=0.01)  # a wrap takes a quarter of an hour
    meter.start()
    for value in (400_000, 100_000, 50_000):
        write(tmp_path / "new", value)
        (tmp_path / "new").replace(counter)  # at once: never seen half written
        patience = time.monotonic() + 20
        while looks[-1] != value:
            assert time.monotonic() < patience
            time.sleep(0.005)
    assert meter.stop().joules == pytest.approx(0.5 + 0.7 + 0.95)


def test_a_wrap_that_may_have_been_missed_is_no_reading(machine):
    first = zones(machine)[0]
    clock = Clock()
    meter = PowercapMeter(first, clock=clock)  # 262 kJ at 2 kW: wraps within 131 s
    meter.start()
    write(first.folder / "energy_uj", 6_000_000)
    clock.now += 132.0
    reading = meter.stop()
    assert (reading.joules, reading.provenance, reading.seconds) == (None, "unavailable", 132.0)
    assert "not read for 132 s" in reading.detail
    assert "131 s" in reading.detail


@pytest.mark.parametrize(("seconds", "moved"), [(0.5, 0), (0.0005, 61)])
def test_a_window_shorter_than_the_counters_period_is_no_reading(machine, seconds, moved):
    first = zones(machine)[0]
    clock = Clock()
    meter = PowercapMeter(first, clock=clock)
    meter.start()
    clock.now += seconds
    write(first.folder / "energy_uj", 5_000_000 + moved)
    reading = meter.stop()
    assert (reading.joules, reading.provenance) == (None, "unavailable")
    assert "repeat the work for at least 0.1 s, and divide" in reading.detail


@pytest.mark.parametrize("fault", ["gone", "garbage"])
def test_a_counter_that_fails_in_a_window_is_no_reading(machine, fault):
    first = zones(machine)[0]
    meter = PowercapMeter(first)
    meter.start()
    if fault == "gone":
        (first.folder / "energy_uj").unlink()
    else:
        write(first.folder / "energy_uj", "many")
    reading = meter.stop()
    assert reading.provenance == "unavailable"
    assert f"{first.folder}/energy_uj cannot be read" in reading.detail
    write(first.folder / "energy_uj", 0)
    meter.start()
    write(first.folder / "energy_uj", RANGE_UJ - 1)
    time.sleep(0.002)
    assert meter.stop().provenance == "measured"


def test_what_only_root_may_read_is_told_as_such():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        counters = [zone(root, f"intel-rapl:{i}", f"package-{i}", 7) for i in range(2)]
        counters[0].chmod(0o000)
        with an_ordinary_user():
            some = find((root,))
        assert (some.state, [meter.name for meter in some.meters]) == ("yes", ["package-1"])
        assert "package-0: [Errno 13] Permission denied" in some.detail
        counters[1].chmod(0o000)
        with an_ordinary_user():
            none = find((root,))
            meter = PowercapMeter(zones(root)[0])
            meter.start()
            reading = meter.stop()
        assert (none.state, none.meters) == ("not allowed", ())
        assert "CVE-2020-8694" in none.detail
        assert reading.provenance == "unavailable"
        assert "Permission denied" in reading.detail


def test_a_meter_measures_one_window_at_a_time(machine):
    meter = PowercapMeter(zones(machine)[0])
    with pytest.raises(RuntimeError, match="start"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="already"):
        meter.start()
    meter.stop()
