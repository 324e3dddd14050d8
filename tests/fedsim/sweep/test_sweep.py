"""A small sweep with real workers: made, made again, broken off, and with a point that fails."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from rich.console import Console

from fedsim import data
from fedsim.errors import ModelError, RunExistsError, ScenarioError, SweepError
from fedsim.measure.schema import Summary
from fedsim.scenario import load
from fedsim.sweep.run import sweep

SCENARIO = """
name: small
data: {name: fashion-mnist}
model: {backbone: "small_network:make", cut: second}
training: {teacher_epochs: 2, epochs: [2, 1], batch_size: 16}
baselines: [local]
fleet: [{count: 1}]
engine: inprocess
seeds: [1, 2]
sweep:
  - model.bottleneck: {name: factorized, channels: 2}
    model.bottleneck.beta: [0.01, 0.1]
"""
NETWORK = """
from collections import OrderedDict
from torch import nn

def make():
    return nn.Sequential(OrderedDict(
        first=nn.Conv2d(1, 4, 3, stride=2, padding=1), act=nn.ReLU(), second=nn.Conv2d(4, 6, 3, stride=2),
        pool=nn.AdaptiveAvgPool2d(2), flat=nn.Flatten(), last=nn.Linear(24, 10),
    ))
"""
LABELS = ["factorized-beta0.01", "factorized-beta0.1", "local"]
FILES = ["compute.png", "logs", "points", "scenario.yaml", "teachers"]
FILES += ["tradeoff.csv", "tradeoff.json", "tradeoff.png"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scenario, and some of the digits in the place of a larger data set."""
    folder = tmp_path_factory.mktemp("sweep")
    digits = data.load("digits")
    sizes = {"x_train": 64, "y_train": 64, "x_test": 8, "y_test": 8}
    arrays = {key: getattr(digits, key)[:size].astype(np.uint8) for key, size in sizes.items()}
    for key in ("x_train", "x_test"):
        arrays[key] = np.kron(arrays[key][:, 0], np.ones((1, 4, 4), np.uint8))[:, 2:30, 2:30]
    np.savez(folder / "fashion_mnist.npz", **arrays)
    (folder / "small.yaml").write_text(SCENARIO)
    (folder / "small_network.py").write_text(NETWORK)
    return folder


@pytest.fixture(scope="module", autouse=True)
def environment(here: Path) -> Iterator[None]:
    """Where data and network are found, here and in the workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDSIM_DATA", str(here))
        patch.setenv("PYTHONPATH", str(here))
        patch.syspath_prepend(here)
        yield


def run(here: Path, out: Path, *overrides: str, **options: Any) -> str:
    """Sweep, and what was printed."""
    console = Console(file=io.StringIO(), width=140)
    options = {"seeds": (1, 2), "jobs": 2, **options}
    try:
        sweep(load(here / "small.yaml", overrides), out, console, **options)
    finally:
        assert psutil.Process().children() == []
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def swept(here: Path, environment: None) -> Path:
    """The sweep, made without a break."""
    run(here, here / "whole")
    return here / "whole"


def figures(folder: Path) -> dict[str, Any]:
    """What every point came to, but for its times."""
    found = {}
    for path in folder.glob("points/*/*/summary.json"):
        summary = Summary.read(path).model_dump(mode="json")
        timed = {"latency_ms", "answered_per_s", "machine"}
        rows = [{k: v for k, v in row.items() if k not in timed} for row in summary["rows"]]
        found["/".join(path.parts[-3:-1])] = rows
    return found


def test_every_point_is_a_run_and_all_are_compared(swept: Path) -> None:
    assert sorted(path.name for path in swept.iterdir() if path.name != ".lock") == FILES
    assert sorted(figures(swept)) == [f"{label}/seed-{seed}" for label in LABELS for seed in (1, 2)]
    found = json.loads((swept / "tradeoff.json").read_text())
    assert [(point["label"], point["seed"]) for point in found["points"]] == [
        (label, seed) for label in LABELS for seed in (1, 2)
    ]
    assert {(point["family"], point["cut"], point["local"]) for point in found["points"]} == {
        ("factorized", "second", False),
        ("local", "output", True),
    }
    assert (
        sorted(path.suffix for path in (swept / "teachers").iterdir()) == [".lock"] * 2 + [".safetensors"] * 2
    )


def test_what_is_finished_is_skipped_and_what_has_changed_is_told(here: Path, swept: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in swept.glob("points/*/*/*")}
    assert "points of other seeds, too, which were not asked for: 2" in run(here, swept, seeds=(1,))
    said = run(here, swept)
    assert "trade-off" in said
    assert "points of the sweep" not in said
    assert {path: path.stat().st_mtime_ns for path in swept.glob("points/*/*/*")} == before
    with pytest.raises(RunExistsError) as caught:
        run(here, swept, "training.epochs=[1, 1]")
    message = str(caught.value)
    assert message.startswith("4 points were made for another scenario; replace them with --force")
    assert "factorized-beta0.01, seed 1: training.epochs was [2, 1] and is now [1, 1]" in message


def test_anchor_that_is_no_family_is_told_before_anything_is_made(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r'--anchor = "local".*known are factorized'):
        run(here, tmp_path / "new", anchor="local")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_there_are_told_before_anything_is_made(here: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights 'absent.npz': no such file"):
        run(here, tmp_path / "new", "model.weights=absent.npz")
    assert list(tmp_path.iterdir()) == []


def test_a_point_that_fails_is_named_and_the_others_stay(here: Path, swept: Path) -> None:
    before = figures(swept)
    worse = "{model.bottleneck: {name: factorized, channels: 3}, model.bottleneck.beta: 0.1, "
    worse += "training.learning_rates: [[1.0e+30, 1.0e+30]]}"
    grids = "{model.bottleneck: {name: factorized, channels: 2}, model.bottleneck.beta: [0.01, 0.1]}"
    console = Console(file=io.StringIO(), width=140)  # no terminal: a line for each point, as it ends
    with pytest.raises(SweepError) as caught:
        sweep(load(here / "small.yaml", [f"sweep=[{grids}, {worse}]"]), swept, console, seeds=(1,), jobs=1)
    told = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert told[0] == "3/4 points are made already"
    assert told[1].startswith("4/4  factorized, seed 1: failed: ")
    assert yaml.safe_load((swept / "scenario.yaml").read_text())["seeds"] == [1]
    assert caught.value.exit_code == 1
    first, second = str(caught.value).splitlines()[:2]
    assert first == "small: 1 of 4 points failed:"
    assert second.startswith("  factorized, seed 1: ")
    assert figures(swept) == before
    assert len(json.loads((swept / "tradeoff.json").read_text())["points"]) == 3


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_process_and_goes_on_to_the_same_result(here: Path, swept: Path) -> None:
    out = here / "killed"
    command = [sys.executable, "-m", "fedsim.cli", "sweep", str(here / "small.yaml"), "--out", str(out)]
    with subprocess.Popen([*command, "--jobs", "2", "--quiet"], start_new_session=True) as parent:
        try:
            deadline = time.monotonic() + 120
            while not list(out.glob("points/*/.seed-*.partial")):
                assert parent.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            workers = psutil.Process(parent.pid).children(recursive=True)
            assert len(workers) == 2
        finally:
            os.kill(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    assert len(figures(out)) < 6
    run(here, out)
    assert figures(out) == figures(swept)
    assert not list(out.glob("points/*/.*"))


def test_a_folder_that_is_no_sweep_is_never_touched(here: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(RunExistsError, match="is no sweep folder"):
        run(here, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
