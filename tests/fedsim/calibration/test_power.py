"""Powers where there is a meter, and why there are none elsewhere."""

import pytest

from edge.energy import Meter
from fedsim.calibration.power import WINDOWS, Watts, measure_power
from fedsim.calibration.timing import timed

from .meters import COMPUTING_W, IDLE_W, BrokenMeter, CpuMeter

SECONDS = 0.4


def measured(*meters: Meter) -> Watts | str:
    return measure_power(meters, timed(lambda number: sum(range(10_000))), SECONDS)


def test_windows_of_idling_and_of_computing() -> None:
    watts = measured(CpuMeter())
    assert isinstance(watts, Watts)
    assert watts.of == "the processor, without the rest of the machine"
    assert len(watts.idle) == len(watts.active) == WINDOWS
    # A thread that waits for a core computes less than all the time, but more than one that sleeps.
    assert watts.idle.min() >= 0.999 * IDLE_W
    assert sum(watts.idle) < sum(watts.active) <= WINDOWS * COMPUTING_W * 1.05


@pytest.mark.parametrize(
    ("kinds", "of", "idle"),
    [
        (["package", "dram"], "processor and memory, without the rest of the machine", 2 * IDLE_W),
        (["package", "gpu"], "the processor, without the rest of the machine", IDLE_W),
        (["package", "soc", "gpu"], "the whole board", IDLE_W),
        (["external", "package"], "the external meter", IDLE_W),
    ],
)
def test_the_most_of_the_machine_that_is_metered(kinds, of: str, idle: float) -> None:
    watts = measured(*map(CpuMeter, kinds))
    assert isinstance(watts, Watts)
    assert watts.of == of
    assert 0.999 * idle <= watts.idle.min() < 1.5 * idle


def test_where_there_is_no_power_it_says_why() -> None:
    assert measured() == "no meter"
    assert measured(CpuMeter("gpu")) == "no meter of the processor (gpu-0)"
    assert measured(BrokenMeter()) == "package-0: the counter stands still"
    busy_elsewhere = measured(CpuMeter(idle_w=7.0, computing_w=1.0))
    assert isinstance(busy_elsewhere, str)
    assert busy_elsewhere.endswith("something else computes here as well")
