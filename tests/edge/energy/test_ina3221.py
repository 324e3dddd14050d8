import tempfile
import time
from pathlib import Path

import pytest

from edge.energy.ina3221 import Ina3221Meter, find, rails

from .sysfs import an_ordinary_user, hwmon_rail, iio_rail, write


@pytest.fixture
def orin(tmp_path):
    """The rails of an Orin Nano: 5 W at the supply."""
    folder = hwmon_rail(tmp_path, 1, "VDD_IN", 5000, 1000)
    hwmon_rail(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 200)
    hwmon_rail(tmp_path, 3, "VDD_SOC", 5000, 300)
    write(folder / "in7_label", "sum of shunt voltages")  # has no current of its own
    return tmp_path


def test_only_the_supply_of_the_board_is_measured(orin):
    assert [rail.label for rail in rails(orin)] == ["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"]
    found = find((orin / "absent", orin))
    assert found.state == "yes"
    assert [(meter.name, meter.what) for meter in found.meters] == [("VDD_IN", "soc")]


def test_older_boards_have_the_power_itself(tmp_path):
    folder = iio_rail(tmp_path, 0, "POM_5V_IN", 1750)
    iio_rail(tmp_path, 1, "POM_5V_GPU", 40)
    (meter,) = find((tmp_path,)).meters
    assert meter.name == "POM_5V_IN"
    (supply,) = [rail for rail in rails(tmp_path) if rail.supplies_the_board]
    assert supply.read() == 1.75
    assert supply.files == (folder / "in_power0_input",)


def test_millivolts_times_milliamperes(orin):
    (supply,) = [rail for rail in rails(orin) if rail.supplies_the_board]
    assert supply.read() == 5.0


def test_a_window_is_the_sum_of_what_was_read_in_it(orin):
    (supply,) = [rail for rail in rails(orin) if rail.supplies_the_board]
    meter = Ina3221Meter(supply, longest_gap_s=60)
    for _ in range(2):
        meter.start()
        time.sleep(0.2)
        reading = meter.stop()
        assert reading.provenance == "measured"
        assert reading.seconds >= 0.2
        assert reading.joules == pytest.approx(5.0 * reading.seconds)
    assert "rail VDD_IN" in reading.detail


def test_a_window_shorter_than_the_time_between_readings_is_none(orin):
    (supply,) = [rail for rail in rails(orin) if rail.supplies_the_board]
    meter = Ina3221Meter(supply, interval_s=3600)
    meter.start()
    reading = meter.stop()
    assert (reading.joules, reading.provenance) == (None, "unavailable")
    assert "too short" in reading.detail


def test_a_sensor_that_fails_leaves_a_gap_and_no_reading(orin):
    (supply,) = [rail for rail in rails(orin) if rail.supplies_the_board]
    meter = Ina3221Meter(supply, interval_s=0.01, longest_gap_s=0.05)
    meter.start()
    current = supply.files[1]
    current.rename(current.with_name("away"))
    time.sleep(0.2)
    current.with_name("away").rename(current)
    reading = meter.stop()
    assert (reading.joules, reading.provenance) == (None, "unavailable")
    assert "VDD_IN: there is no sample for" in reading.detail
    assert "No such file" in reading.detail


def test_current_that_flows_backwards_is_no_energy(orin):
    (supply,) = [rail for rail in rails(orin) if rail.supplies_the_board]
    write(supply.files[1], -1000)
    meter = Ina3221Meter(supply, interval_s=0.01, longest_gap_s=60)
    meter.start()
    time.sleep(0.03)
    reading = meter.stop()
    assert reading.provenance == "unavailable"
    assert "backwards" in reading.detail


def test_a_board_without_a_rail_of_its_supply_is_not_summed_up(tmp_path):
    hwmon_rail(tmp_path, 1, "VDD_GPU_SOC", 5000, 1000)
    hwmon_rail(tmp_path, 2, "VIN_SYS_5V0", 5000, 1000)
    found = find((tmp_path,))
    assert (found.state, found.meters) == ("no", ())
    assert "none of the rails VDD_GPU_SOC, VIN_SYS_5V0" in found.detail


def test_no_jetson(tmp_path):
    found = find((tmp_path,))
    assert (found.state, found.meters) == ("no", ())
    assert str(tmp_path) in found.detail


def test_a_rail_that_is_not_for_everybody_is_not_allowed():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (hwmon_rail(root, 1, "VDD_IN", 5000, 1000) / "curr1_input").chmod(0o000)
        with an_ordinary_user():
            found = find((root,))
    assert (found.state, found.meters) == ("not allowed", ())


def test_a_label_that_cannot_be_read_is_no_rail(tmp_path):
    folder = hwmon_rail(tmp_path, 1, "VDD_IN", 5000, 1000)
    label = folder / "in1_label"
    label.unlink()
    label.mkdir()  # reading it fails for every user, root included
    assert rails(tmp_path) == []


def test_a_meter_measures_one_window_at_a_time(orin):
    (meter,) = find((orin,)).meters
    with pytest.raises(RuntimeError, match="start"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="already"):
        meter.start()
    meter.stop()
