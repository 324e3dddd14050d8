"""The engine virtual against the engine processes: the same scenario predicted, and measured over the relay.

Devices send features of 32 KB over one shared link, each as soon as it has its answer and has paused. The
machine should be idle: whatever else runs on it delays what is measured, and nothing that is predicted.
"""

import json
import os
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from fedsim.compare import compare
from fedsim.hardware import find_link
from fedsim.hardware.models import link_of

from .processes import ROOT

DEVICES, RATES_MBIT, DELAYS_MS = (1, 2, 8), (2.0, 50.0), (0.0, 25.0, 100.0)
BUSY = {"devices": 4, "rate_mbit": 20.0, "delay_ms": 5.0, "pause_s": 0.006}  # utilisation 0.9
TIMES = 3  # that it is measured
PAUSE_S = 0.05
HELD_OUT = 0.25  # of the training samples: 300 samples are enough for a mean
DEVICE = "raspberry-pi-4"
METHOD = "float32"

pytestmark = pytest.mark.benchmark


def link_file(folder: Path, rate_mbit: float, delay_ms: float) -> Path:
    direction = {
        "rate": {"value": rate_mbit, "unit": "Mbit/s"},
        "delay": {"value": delay_ms, "unit": "ms"},
    }
    lines = [
        'title = "A link to measure"',
        'sharing = "processor"',
        'default = {source = "chosen", how = "assumed", trust = "D", verified = false}',
        'sources = {chosen = "of this benchmark"}',
    ]
    for way in ("up", "down"):
        for key, value in direction.items():
            lines.append(f'{way}.{key} = {{value = {value["value"]}, unit = "{value["unit"]}"}}')
    file = folder / f"link-{rate_mbit:g}-{delay_ms:g}.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def scenario(
    folder: Path, devices: int, rate_mbit: float, delay_ms: float, pause_s: float, held_out: float | None
) -> Path:
    file = folder / f"{devices}-{rate_mbit:g}-{delay_ms:g}.yaml"
    document = {
        "name": "prediction",
        "seed": 3,
        "data": {"name": "digits", "validation": held_out},
        "model": {
            "backbone": "digits-cnn",
            "backbone_arguments": {"widths": [128, 8, 16]},
            "cut": "stage1",
            "bottleneck": {"name": METHOD},
        },
        "training": {"teacher_epochs": 1},
        "fleet": [
            {
                "count": devices,
                "device": DEVICE,
                "link": str(link_file(folder, rate_mbit, delay_ms)),
                "arrivals": {"kind": "closed", "pause_s": pause_s, "random": True},
                "deadline_s": 60.0,
            }
        ],
        "server": {"batch": {"size": 8, "wait_ms": 0}},
    }
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def run(file: Path, engine: str) -> Path:
    out = file.with_name(f"{file.stem}-{engine}")
    command = [sys.executable, "-m", "fedsim.cli", "run", str(file), "--set", f"engine={engine}"]
    subprocess.run([*command, "--out", str(out), "--quiet"], cwd=ROOT, check=True, capture_output=True)
    return out


def utilisation(folder: Path, link: str) -> float:
    """Of the uplink, from the first sample's beginning to the last one's end, in the prediction."""
    events = pq.read_table(folder / "ledger.parquet")
    totals = events.filter(pc.equal(events["stage"], "total"))
    start, took = totals["start_s"].to_numpy(), totals["duration_s"].to_numpy()
    sent = pc.sum(events["wire_bytes"]).as_py()
    return 8 * sent / (max(start + took) - min(start)) / link_of(find_link(link)).up.rate_bps


def cell(
    folder: Path,
    devices: int,
    rate_mbit: float,
    delay_ms: float,
    pause_s: float,
    held_out: float | None = None,
) -> dict[str, object]:
    """One prediction against one measurement; of all samples for the test, or of those held out as well."""
    folder.mkdir(exist_ok=True)
    file = scenario(folder, devices, rate_mbit, delay_ms, pause_s, held_out)
    simulated, measured = run(file, "virtual"), run(file, "processes")
    (found,) = compare(simulated, measured).methods
    total = found.timings["total"]
    link = folder / f"link-{rate_mbit:g}-{delay_ms:g}.toml"
    counted = json.loads(next((measured / "links").glob("*.json")).read_text(encoding="utf-8"))
    return {
        "devices": devices,
        "rate_mbit": rate_mbit,
        "delay_ms": delay_ms,
        "utilisation": round(utilisation(simulated, str(link)), 2),
        "predicted_mean_ms": round(total.simulated.mean, 1),
        "measured_mean_ms": round(total.measured.mean, 1),
        "mean_error": round(total.error("mean"), 4),
        "p95_error": round(total.error("p95"), 4),
        "stages": {
            stage: [round(one.simulated.mean, 2), round(one.measured.mean, 2)]
            for stage, one in found.timings.items()
        },
        "bytes_equal": all(
            size.equal == size.samples for level, size in found.sizes.items() if level != "ideal"
        ),
        "relay_wire_bytes": counted["up"]["wire_bytes"],
        "load": round(os.getloadavg()[0], 2),
    }


def test_four_devices_that_keep_a_link_busy(report, tmp_path):
    found = [cell(tmp_path / str(time), **BUSY) for time in range(TIMES)]
    figures = {
        "mean_error": statistics.median(one["mean_error"] for one in found),
        "p95_error": statistics.median(one["p95_error"] for one in found),
        "bytes_equal": all(one["bytes_equal"] for one in found),
        "utilisation": statistics.median(one["utilisation"] for one in found),
        "runs": found,
    }
    asked = {"mean_error": 0.05, "p95_error": 0.10, "bytes_equal": True, "utilisation": 0.9}
    report("prediction of a busy link", figures, asked)
    assert figures["bytes_equal"]


def test_every_cell_of_the_grid(report, tmp_path):
    cells = [cell(tmp_path, *of, PAUSE_S, HELD_OUT) for of in product(DEVICES, RATES_MBIT, DELAYS_MS)]
    errors = [abs(one["mean_error"]) for one in cells]
    figures = {
        "cells": cells,
        "worst_mean_error": max(errors),
        "median_mean_error": round(statistics.median(errors), 4),
        "bytes_equal": all(one["bytes_equal"] for one in cells),
    }
    report("prediction over the grid", figures, {"worst_mean_error": 0.10, "bytes_equal": True})
    assert figures["bytes_equal"]
