"""Containers: what the image weighs, what a device takes, how soon it answers, what was predicted of it."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from fedsim.compare import compare

from ..test_compose import Project, command  # noqa: F401  a fixture
from .processes import ROOT
from .test_prediction import DELAYS_MS, HELD_OUT, PAUSE_S, RATES_MBIT, scenario

pytestmark = [pytest.mark.benchmark, pytest.mark.docker]

DEVICES = 8
SCENARIO = "scenarios/compose-split.yaml"


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_image(report, command):  # noqa: F811
    layers = said(
        "docker", "history", "--format", "{{.Size}}\t{{.CreatedBy}}", "--no-trunc", "fedsim-edge:local"
    )
    units = {"kB": 1e-3, "MB": 1.0, "GB": 1e3, "B": 1e-6}
    total = 0.0
    for layer in layers.splitlines():
        size, by = layer.split("\t", 1)
        if "TORCH_INDEX" in by and "pip install" in by:
            break  # torch, and below it the base image
        unit = next(name for name in units if size.endswith(name))
        total += float(size.removesuffix(unit)) * units[unit]
    report("edge image", {"megabytes_on_top_of_torch_and_base": round(total, 1)}, {"megabytes": "<= 200"})


def run(file: Path, engine: str, folder: Path) -> Path:
    out = folder / engine
    words = [sys.executable, "-m", "fedsim.cli", "run", str(file), "--set", f"engine={engine}"]
    if engine == "virtual":  # a relay has no radio that would have to wake
        words += ["--set", "fleet.0.radio=ethernet"]
    subprocess.run([*words, "--out", str(out), "--quiet"], cwd=ROOT, check=True, capture_output=True)
    return out


def sizes(folder: Path) -> dict[tuple[str, int], tuple[int, int]]:
    rows = pq.read_table(folder / "ledger.parquet").to_pylist()
    return {
        (one["method"], one["sample"]): (one["payload_bytes"], one["frame_bytes"])
        for one in rows
        if one["stage"] == "send"
    }


def devices() -> dict[int, float]:
    """Megabytes that each device process has had resident at most, by its id on this machine."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        if "edge.device" in (process.info["cmdline"] or []):
            with suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                (most,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
                found[process.pid] = int(most.split()[1]) * 1024 / 1e6
    return found


def test_eight_devices(report, command, tmp_path):  # noqa: F811
    folder = tmp_path / "containers"
    folder.mkdir()
    project = Project(command, folder, f"fedsim-benchmark-{os.getpid()}")
    (folder / "scenarios" / "small.yaml").write_text((ROOT / SCENARIO).read_text())
    try:
        began = time.time()
        up = subprocess.Popen(
            [*project.command, "up", "--scale", f"device={DEVICES}", "--exit-code-from", "report"],
            env=project.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        memory: dict[int, float] = {}
        while up.poll() is None:
            time.sleep(1)
            memory |= {pid: size for pid, size in devices().items() if size}
        assert up.returncode == 0
        measured = folder / "results" / "compose-split-7"
        rows = pq.read_table(measured / "ledger.parquet").to_pylist()
        first = min(one["start_s"] + one["duration_s"] for one in rows if one["outcome"] == "answered")
        loopback, virtual = (run(ROOT / SCENARIO, engine, tmp_path) for engine in ("processes", "virtual"))
        found = compare(virtual, measured)
        here = {one.method: one.timings["total"].error("mean") for one in compare(virtual, loopback).methods}
        ours, theirs, predicted = sizes(measured), sizes(loopback), sizes(virtual)
        # Models trained in another environment may differ in their last bits, and so in their codes.
        same = [key for key in ours if key[0] != "factorized"]
        report(
            "containers",
            {
                "devices": DEVICES,
                "first_answer_s": round(first - began, 1),
                "device_megabytes": round(max(memory.values()), 1),
                "samples_compared": len(same),
                "bytes_equal": all(ours[key] == theirs[key] == predicted[key] for key in same),
                "bytes_equal_factorized": ours == theirs == predicted,
                "latency_ms": {
                    one.method: {
                        "predicted": round(one.timings["total"].simulated.mean, 1),
                        "measured": round(one.timings["total"].measured.mean, 1),
                        "mean_error": round(one.timings["total"].error("mean"), 4),
                        "mean_error_without_containers": round(here[one.method], 4),
                        "stages": {
                            stage: [round(each.simulated.mean, 2), round(each.measured.mean, 2)]
                            for stage, each in one.timings.items()
                        },
                    }
                    for one in found.methods
                },
                "counters": json.loads((measured / "links" / "link-0.json").read_text())["up"],
            },
            {
                "first_answer_s": "<= 20",
                "device_megabytes": "<= 300",
                "bytes_equal": True,
                "mean_error": "within 0.1",
            },
        )
    finally:
        project.compose("down", "-v", "--timeout", "5")


def test_prediction_in_every_cell_of_the_grid(report, command, tmp_path):  # noqa: F811
    """The scenarios of the prediction's own benchmark, with all of its devices in containers."""
    cells = []
    for rate_mbit, delay_ms in product(RATES_MBIT, DELAYS_MS):
        folder = tmp_path / f"{rate_mbit:g}-{delay_ms:g}"
        folder.mkdir()
        project = Project(command, folder, f"fedsim-benchmark-{os.getpid()}")
        file = scenario(folder / "scenarios", DEVICES, rate_mbit, delay_ms, PAUSE_S, HELD_OUT)
        text = file.read_text().replace(f"{folder}/scenarios/", "")  # the link's file lies beside it
        (folder / "scenarios" / "small.yaml").write_text(text)
        try:
            project.compose("up", "--scale", f"device={DEVICES}", "--exit-code-from", "report")
        finally:
            project.compose("down", "-v", "--timeout", "5")
        virtual = run(folder / "scenarios" / "small.yaml", "virtual", folder)
        (found,) = compare(virtual, folder / "results" / "prediction-3").methods
        total = found.timings["total"]
        cells.append(
            {
                "rate_mbit": rate_mbit,
                "delay_ms": delay_ms,
                "predicted_mean_ms": round(total.simulated.mean, 1),
                "measured_mean_ms": round(total.measured.mean, 1),
                "mean_error": round(total.error("mean"), 4),
                "stages": {
                    stage: [round(one.simulated.mean, 2), round(one.measured.mean, 2)]
                    for stage, one in found.timings.items()
                },
            }
        )
    figures = {"devices": DEVICES, "cells": cells}
    figures["worst_mean_error"] = max(abs(one["mean_error"]) for one in cells)
    report("prediction of containers over the grid", figures, {"worst_mean_error": 0.10})
