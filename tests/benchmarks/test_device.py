"""A device process: its memory, the time until its first sample is sent, the modules that it loads."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.bundle import load_device

from .processes import PATIENCE_S, ROOT, device_command, events_at, saved_model, saved_samples, serving

FORBIDDEN = ("compressai", "torchvision", "torch_geometric", "pandas", "matplotlib", "flwr", "ray", "fedsim")
SAMPLES, STARTS = 100, 3
MODELS = {
    "digits": {
        "network": "digits-cnn",
        "input_shape": (1, 8, 8),
        "cut": "stage2",
        "entry": "input",
        "channels": 12,
        "encoder_channels": [32, 24],
    },
    "resnet18-32": {
        "network": "resnet18-32",
        "input_shape": (3, 32, 32),
        "cut": "layer2",
        "entry": "input",
        "channels": 24,
    },
}
# Runs the device in this interpreter, then prints what the process itself knows of its modules and memory.
LOOK_INSIDE = """
import json, sys
from edge.device import main
code = main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"code": code, "modules": sorted(sys.modules), "peak_kib": int(status["VmHWM"].split()[0])}))
"""

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux: /proc"),
]


def started(arguments):
    """Peak memory in MiB of a ``python -m edge.device`` process, and when it was started (Unix time)."""
    began = time.time()
    command = [sys.executable, "-m", "edge.device", *arguments]
    peak_kib = 0
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as device:
        status = Path(f"/proc/{device.pid}/status")
        try:
            # The kernel's high-water mark only rises, so the last reading is the peak but for the very end.
            while device.poll() is None:
                assert time.time() < began + PATIENCE_S, f"the device runs after {PATIENCE_S} s"
                marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
                peak_kib = max([peak_kib, *(int(mark.split()[1]) for mark in marks)])
                time.sleep(0.01)
        finally:
            if device.poll() is None:
                device.kill()
    assert device.returncode == 0
    return peak_kib / 1024, began


@pytest.mark.parametrize("name", MODELS)
def test_device(report, tmp_path, name):
    options = MODELS[name]
    model = saved_model(tmp_path, bottleneck="factorized", **options)
    samples = saved_samples(tmp_path / "samples.safetensors", options["input_shape"], range(SAMPLES))
    peaks, first_sent = [], []
    with serving(tmp_path, model) as address:
        for start in range(STARTS):
            out = tmp_path / f"events-{start}.jsonl"
            peak, began = started(device_command(address, model, samples, out))
            peaks.append(peak)
            first_sent.append(min(send["start_s"] for send in events_at(out, "send")) - began)
            assert {total["outcome"] for total in events_at(out, "total")} == {"answered"}
        inside = [sys.executable, "-c", LOOK_INSIDE]
        inside += device_command(address, model, samples, tmp_path / "inside.jsonl")
        done = subprocess.run(inside, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
    seen = json.loads(done.stdout)
    assert seen["code"] == 0
    figures = {
        "model": f"{name}, factorized, {load_device(model).parameters} parameters on the device",
        "samples": SAMPLES,
        "peak_resident_mib": round(max([*peaks, seen["peak_kib"] / 1024]), 1),
        "first_sample_sent_s": {
            "median": round(statistics.median(first_sent), 2),
            "max": round(max(first_sent), 2),
            "of": STARTS,
        },
        "forbidden_modules": sorted(set(FORBIDDEN) & set(seen["modules"])),
        "modules": len(seen["modules"]),
    }
    asked = {
        "peak_resident_mib": "<= 300 MB (286 MiB)",
        "first_sample_sent_s": "<= 5",
        "forbidden_modules": "none of " + ", ".join(FORBIDDEN),
    }
    report("device", figures, asked)
