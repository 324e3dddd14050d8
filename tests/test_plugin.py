"""The plug-in of the README, as a stranger has it: a file beside a scenario, or an installed package."""

import csv
import json
import os
import re
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Enough to run everything, and too little to learn anything.
SMALLEST = [
    "training.teacher_epochs=1",
    "training.epochs=[1, 1]",
    "baselines=[]",
    "fleet=[{count: 1, in_flight: 8}]",
]


def block(language: str) -> str:
    """The README's only block in a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(text)


def run(python: Path, *arguments: str, folder: Path) -> str:
    """What a command in a process of its own says. As a console script, it does not see its folder."""
    done = subprocess.run(
        [str(python), "-P", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def settings(*chosen: str) -> list[str]:
    return [word for setting in (*SMALLEST, *chosen) for word in ("--set", setting)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment, in which the plug-in is installed; ours lie beneath it."""
    folder = tmp_path_factory.mktemp("stranger")
    package = folder / "my-bottlenecks"
    package.mkdir()
    (package / "mymodule.py").write_text(block("python"))
    (package / "pyproject.toml").write_text(block("toml"))
    venv.create(folder / "environment", symlinks=True)
    python = folder / "environment" / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "environment")}))
    beneath = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "beneath.pth").write_text("\n".join(beneath))
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", str(package)]
    run(Path(sys.executable), "-m", "pip", "--python", str(python), *install, folder=folder)
    return python


@pytest.mark.slow
def test_a_file_beside_the_scenario_runs_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "mymodule.py").write_text(block("python"))
    (tmp_path / "plans" / "mine.yaml").write_text(block("yaml"))
    chosen = settings("sweep={model.bottleneck.beta: [0.05]}", "model.bottleneck.channels=4")
    arguments = ["run", "plans/mine.yaml", "--quiet", "--out", "here", *chosen]
    run(Path(sys.executable), "-m", "fedsim.cli", *arguments, folder=tmp_path)
    (row,) = json.loads((tmp_path / "here" / "summary.json").read_text())["rows"]
    assert row["method"].startswith("mymodule-Mine")
    assert row["frame_bytes"]["mean"] > row["payload_bytes"]["mean"] > 0
    device = json.loads(next((tmp_path / "here" / "models").glob("*/device/model.json")).read_text())
    assert device["spec"]["bottleneck"] == "mymodule:Mine"


@pytest.mark.slow
def test_an_installed_package_is_listed_trained_served_and_compared(
    environment: Path, tmp_path: Path
) -> None:
    listed = run(environment, "-m", "fedsim.cli", "list", "bottlenecks", folder=tmp_path).splitlines()
    (at,) = (number for number, line in enumerate(listed) if line.startswith("mine "))
    assert listed[at].split(maxsplit=1)[1].startswith("Depthwise separable encoder")
    assert listed[at + 1].strip() == "my-bottlenecks 0.1.0, mymodule:Mine"

    (tmp_path / "mine.yaml").write_text(block("yaml"))
    chosen = settings("sweep={model.bottleneck.name: [mine]}", "model.bottleneck.beta=0.05")
    arguments = ["sweep", "mine.yaml", "--out", "here", "--jobs", "1", *chosen]
    table = run(environment, "-m", "fedsim.cli", *arguments, folder=tmp_path)
    assert re.search(r"^ *mine\b", table, re.MULTILINE), table
    (summary,) = (tmp_path / "here").glob("points/*/*/summary.json")
    assert json.loads(summary.read_text())["scenario"]["engine"] == "processes"
    with (tmp_path / "here" / "tradeoff.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["family"] == "mine"
    assert float(row["payload_bytes"]) > 0
    assert 0 <= float(row["accuracy"]) <= 1
