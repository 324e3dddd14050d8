import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from fedsim import __version__, runner
from fedsim.cli import app
from fedsim.errors import EngineError
from fedsim.scenario import Scenario

SCENARIO = """
name: smallest
seed: 3
data: {name: digits}
model: {backbone: digits-cnn, cut: stage2, bottleneck: {name: float16}}
training: {teacher_epochs: 1}
fleet: [{count: 1}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a scenario."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smallest.yaml").write_text(SCENARIO)
    return tmp_path


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_version() -> None:
    assert invoke("--version") == (0, f"fedsim {__version__}\n", "")


def test_help_names_the_commands() -> None:
    code, out, _ = invoke("--help")
    assert code == 0
    assert "run" in out
    assert "list" in out


@pytest.mark.parametrize(
    ("kind", "name", "origin"),
    [
        ("bottlenecks", "factorized", "edge.bottlenecks.factorized:FactorizedBottleneck"),
        ("backbones", "digits-cnn", "8x8"),
        ("datasets", "fashion-mnist", "FEDSIM_DATA"),
        ("recipes", "entropic-student", "teacher hints"),
        ("engines", "processes", "fedsim.engines.processes"),
    ],
)
def test_list(kind: str, name: str, origin: str) -> None:
    code, out, _ = invoke("list", kind)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
    assert origin in line


def test_list_of_something_else_says_what_there_is() -> None:
    code, _, err = invoke("list", "planets")
    assert code == 2
    assert "planets" in err
    assert "'datasets'" in err


@pytest.mark.parametrize(
    ("old", "new", "place", "allowed"),
    [
        ("bottleneck:", "botleneck:", 'model.botleneck = {"name": "float16"}', "did you mean 'bottleneck'?"),
        ("digits}", "digitz}", 'data.name = "digitz"', "known are cifar10, digits, fashion-mnist"),
        ("float16", "float17", 'model.bottleneck.name = "float17"', "known are factorized, float16"),
        ("stage2", "stage9", 'model.cut = "stage9"', "stage1, stage2.conv1"),
        ("float16", "factorized, beta: -2", "model.bottleneck.beta = -2", "a number, at least 0"),
        ("count: 1", "count: -1", "fleet.0.count = -1", "a whole number, at least 1"),
    ],
)
def test_bad_scenario_is_one_message_and_leaves_nothing_behind(
    here: Path, old: str, new: str, place: str, allowed: str
) -> None:
    (here / "smallest.yaml").write_text(SCENARIO.replace(old, new))
    code, out, err = invoke("run", "smallest.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("fedsim: smallest.yaml: ")
    assert place in err
    assert allowed in err
    assert len(err.splitlines()) == 1
    assert os.listdir(here) == ["smallest.yaml"]


def test_absent_data_is_one_message_and_leaves_no_run_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    arguments = ["--set", "data.name=fashion-mnist", "--set", "model.backbone=resnet18-32"]
    arguments += ["--set", "model.backbone_arguments.channels=1", "--set", "model.cut=layer1"]
    code, out, err = invoke("run", "smallest.yaml", *arguments, "--quiet", "--out", "here")
    assert (code, out) == (2, "")
    assert err.startswith("fedsim: data set 'fashion-mnist': set FEDSIM_DATA to the folder")
    assert os.listdir(here) == ["smallest.yaml"]


def test_run_that_exists_is_kept(here: Path) -> None:
    finished = here / "runs" / "smallest-3"
    finished.mkdir(parents=True)
    (finished / "summary.json").write_text("kept")
    code, _, err = invoke("run", "smallest.yaml")
    assert code == 2
    assert "--force" in err
    assert (finished / "summary.json").read_text() == "kept"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EngineError("the server did not start"), 1, "fedsim: the server did not start\n"),
        (KeyboardInterrupt(), 130, "fedsim: interrupted\n"),
    ],
)
def test_failure_and_interruption_have_their_exit_codes(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise error

    monkeypatch.setattr(runner, "run", fail)
    assert invoke("run", "smallest.yaml") == (code, "", said)


def test_console_script_in_its_own_process(here: Path) -> None:
    def fedsim(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "fedsim.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    bad = fedsim("run", "smallest.yaml", "--set", "engine=procesess")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr == (
        'fedsim: smallest.yaml: engine = "procesess" (by --set): unknown engine; '
        "did you mean 'processes'? known are processes\n"
    )
    assert fedsim("run", "absent.yaml").returncode == 2
    assert fedsim("walk").returncode == 2
    assert os.listdir(here) == ["smallest.yaml"]


def test_help_is_instant_because_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from fedsim.cli import app;"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0;"
        "heavy = {'torch', 'numpy', 'pydantic', 'yaml', 'matplotlib', 'pyarrow'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_smallest_scenario_runs_and_says_where_its_results_lie(here: Path) -> None:
    code, out, err = invoke("run", "smallest.yaml", "--seed", "5", "--set", "fleet.0.in_flight=8")
    assert (code, err) == (0, "")
    folder = Path("runs") / "smallest-5"
    last = out.splitlines()[-1]
    assert last.startswith(f"Results in {folder}: ")
    assert "summary.json" in last
    assert "ledger.parquet" in last
    assert yaml.safe_load((folder / "scenario.yaml").read_text())["seed"] == 5


def test_options_reach_the_run_and_quiet_prints_the_folder_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def record(scenario: Scenario, out: Path, force: bool, console: Console, *, quiet: bool) -> Path:
        seen.update(seed=scenario.seed, devices=scenario.devices, out=out, force=force, quiet=quiet)
        console.print("not to be seen")
        return out

    monkeypatch.setattr(runner, "run", record)
    arguments = ["--set", "fleet.0.count=4", "--seed", "9", "--out", "elsewhere", "--force", "--quiet"]
    assert invoke("run", "smallest.yaml", *arguments) == (0, "elsewhere\n", "")
    assert seen == {"seed": 9, "devices": 4, "out": Path("elsewhere"), "force": True, "quiet": True}
