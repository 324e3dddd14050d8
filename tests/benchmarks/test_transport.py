"""What gRPC takes for a message and its reply, and what an emulated link adds beyond what the link takes."""

import pytest

from edge.link import Direction, LinkSpec
from fedsim.calibration.lines import fit
from fedsim.calibration.transport import MESSAGES, sends

WAYS = {
    "loopback": None,
    "relay": LinkSpec(),
    "relay at 1 Gbit/s": LinkSpec(Direction(1e9), Direction(1e9)),
    "relay at 20 Mbit/s": LinkSpec(Direction(20e6), Direction(20e6)),
    "relay at 20 Mbit/s, 25 ms": LinkSpec(Direction(20e6, 0.025), Direction(20e6, 0.025)),
}

pytestmark = pytest.mark.benchmark


def test_transport(report):
    found = sends(WAYS)
    lines = {way: fit(timings) for way, timings in found.items()}
    loopback = lines["loopback"].fixed
    figures = {"messages": MESSAGES}
    for way, timings in found.items():
        figures[way] = {
            "fixed_ms": round(1e3 * lines[way].fixed, 3),
            "ns_a_byte": round(1e9 * lines[way].each, 2),
            "fixed_of_loopback": round(lines[way].fixed / loopback, 2),
            "mean_of_median": {
                size: round(timing.minima.mean() / timing.seconds, 2) for size, timing in timings.items()
            },
        }
    report("transport", figures, {})
