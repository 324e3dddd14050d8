import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.energy import find_meters, sources

from .sysfs import hwmon_rail, zone

ROOT = Path(__file__).parents[3]
LOOK_FOR_METERS = """
import json, sys
from edge.energy import read_power_log
light = sorted(sys.modules)
from edge.energy import find_meters
find_meters()
print(json.dumps([light, sorted(sys.modules)]))
"""


def test_a_machine_with_nothing_says_why_of_each(tmp_path):
    found = sources((tmp_path,))
    assert [source.name for source in found] == ["powercap", "ina3221", "zeus"]
    assert all(source.detail for source in found)
    assert [source.state for source in found][:2] == ["no", "no"]


def test_meters_of_all_sources(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    hwmon_rail(tmp_path, 1, "VDD_IN", 5000, 1000)
    assert [meter.name for meter in find_meters((tmp_path,))] == ["package-0", "VDD_IN"]


def test_a_board_is_not_measured_twice(tmp_path):
    hwmon_rail(tmp_path, 1, "VDD_IN", 5000, 1000)
    *_, zeus = sources((tmp_path,))
    assert (zeus.state, zeus.meters) == ("no", ())
    assert "not needed" in zeus.detail


@pytest.mark.skipif(
    importlib.util.find_spec("zeus") is not None, reason="Zeus is installed, and loads pandas"
)
def test_a_device_that_looks_for_meters_loads_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", LOOK_FOR_METERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    light, after = map(set, json.loads(done.stdout))
    assert "torch" not in light
    assert {"torch", "pandas", "fedsim", "rich", "pydantic"} & after == set()
