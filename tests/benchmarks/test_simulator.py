"""The simulator: inferences a second of one core, memory, and what twice as many devices take."""

import json
import statistics
import subprocess
import sys

import pytest

from .processes import ROOT

DEVICES, EACH, ROUNDS = 1000, 500, 3
PROGRAM = """
import json, resource, sys, time
import numpy as np
from fedsim.hardware.radio import RadioModel
from fedsim.simulator.fleet import Cell, Device, Server, Work, simulate

devices, each = int(sys.argv[1]), int(sys.argv[2])
bits, rate = 8 * 600.0, 20e6
generator = np.random.default_rng(0)
radio = RadioModel(0.0, 0.1, 1.0, 1.0, 4e-7, 5e-8, ((1.0, 0.5),))

def fleet(count, samples):
    gaps = generator.exponential(bits * count / (0.9 * rate), (count, samples))
    sizes = {"up_bits": bits, "down_bits": 400.0, "compute_s": 1e-3, "up_delay_s": 0.025}
    works = [Work(np.cumsum(row), **sizes) for row in gaps]
    return [Device(work, 0, 1, in_flight=4, deadline_s=10.0, radio=radio) for work in works]

server = Server(workers=4, batch=8, wait_s=1e-3, fixed_s=1e-5, each_s=1e-5)
began = time.perf_counter()
simulate([Cell(rate), Cell(rate)], server, fleet(2, 2))  # compiled, or read from numba's cache
loaded = time.perf_counter() - began
described = fleet(devices, each)
began, worked = time.perf_counter(), time.process_time()
found = simulate([Cell(rate), Cell(rate)], server, described)
seconds, worked = time.perf_counter() - began, time.process_time() - worked
assert not np.isnan(found.at("ended")).any()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
figures = {"loading_s": loaded, "s": seconds, "cpu_s": worked, "megabytes": memory, "events": found.events}
print(json.dumps(figures))
"""

pytestmark = pytest.mark.benchmark


def measured(devices):
    command = [sys.executable, "-c", PROGRAM, str(devices), str(EACH)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_simulator(report):
    runs = [(measured(DEVICES), measured(2 * DEVICES)) for _ in range(ROUNDS)]
    inferences = DEVICES * EACH
    report(
        "simulator: devices that share an uplink",
        {
            "devices": DEVICES,
            "inferences": inferences,
            "events": runs[0][0]["events"],
            "inferences_per_s": [round(inferences / one["s"]) for one, _ in runs],
            "inferences_per_cpu_s": [round(inferences / one["cpu_s"]) for one, _ in runs],
            "megabytes": [round(one["megabytes"]) for one, _ in runs],
            "times_the_time_of_twice_the_devices": round(
                statistics.median(two["cpu_s"] / one["cpu_s"] for one, two in runs), 2
            ),
            "loading_s": round(min(one["loading_s"] for one, _ in runs), 2),
        },
        {
            "inferences_per_s": ">= 100000",
            "megabytes": "<= 1000",
            "times_the_time_of_twice_the_devices": "<= 2.3",
        },
    )
