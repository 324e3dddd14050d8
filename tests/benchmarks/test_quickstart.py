"""The quickstart as a user runs it: how long it takes, and what its learned bottleneck is worth."""

import json
import subprocess
import sys
import time

import pytest
import yaml

from .processes import ROOT

IMAGE_CODECS = ("png", "jpeg", "webp")
PATIENCE_S = 900

pytestmark = pytest.mark.benchmark


def test_quickstart(report, tmp_path):
    scenario, out = ROOT / "scenarios" / "quickstart.yaml", tmp_path / "run"
    command = [sys.executable, "-m", "fedsim.cli", "run", str(scenario), "--out", str(out), "--quiet"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    wall_s = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    rows = summary["rows"]
    (uncut,) = [row for row in rows if row["method"] == "local"]
    (raw,) = [row for row in rows if row["bottleneck"] == "raw-image"]
    codecs = {
        row["method"]: row["payload_bytes"]["mean"] for row in rows if row["bottleneck"] in IMAGE_CODECS
    }
    learned = sorted((row for row in rows if row["learned"]), key=lambda row: row["rate"])
    swept = yaml.safe_load(scenario.read_text())["sweep"]["model.bottleneck.beta"]
    assert sorted(swept) == [row["rate"] for row in learned]
    middle = learned[len(learned) // 2]
    payload = middle["payload_bytes"]["mean"]
    payloads = [row["payload_bytes"]["mean"] for row in learned]
    figures = {
        "wall_s": round(wall_s, 1),
        "threads": summary["environment"]["threads"],
        "samples": middle["samples"],
        "accuracy_uncut": round(uncut["accuracy"], 4),
        "accuracy_middle_rate": round(middle["accuracy"], 4),
        "points_below_uncut": round(100 * (uncut["accuracy"] - middle["accuracy"]), 2),
        "payload_bytes_middle_rate": round(payload, 2),
        "image_codecs_bytes": {name: round(size, 2) for name, size in codecs.items()},
        "times_fewer_than_smallest_image_codec": round(min(codecs.values()) / payload, 2),
        "times_fewer_than_raw_pixels": round(raw["payload_bytes"]["mean"] / payload, 2),
        "by_beta": [
            [row["rate"], round(row["accuracy"], 4), round(size, 2)]
            for row, size in zip(learned, payloads, strict=True)
        ],
        "rates_ordered": payloads == sorted(payloads, reverse=True),
    }
    asked = {
        "points_below_uncut": "<= 2",
        "times_fewer_than_smallest_image_codec": ">= 4",
        "wall_s": "<= 90 on 2 cores",
    }
    report("quickstart", figures, asked)
