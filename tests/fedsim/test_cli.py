import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedsim import __version__, runner
from fedsim.cli import app
from fedsim.cli.reporting import console
from fedsim.errors import EngineError, SweepError
from fedsim.measure.schema import Summary
from fedsim.names import Kind
from fedsim.scenario import Scenario, load
from fedsim.sweep import run as sweep_run

#: What a finished run leaves, as docs/summary.md lists it.
RUN_FOLDER = [
    "ledger.parquet",
    "logs",
    "models",
    "scenario.yaml",
    "summary.json",
    "tradeoff.png",
    "training.json",
]
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
        ("bottlenecks", "factorized", "Entropic Student"),
        ("backbones", "digits-cnn", "8x8"),
        ("datasets", "fashion-mnist", "FEDSIM_DATA"),
        ("recipes", "entropic-student", "teacher hints"),
        ("engines", "processes", "at most 64"),
        ("engines", "inprocess", "real payloads"),
        ("engines", "deployment", "SuperNode"),
        ("methods", "fedproto", "pull of features"),
        ("partitions", "dirichlet", "Dirichlet distribution"),
        ("arrivals", "periodic", "every period_s seconds"),
        ("availability", "churn", "Markov chain"),
    ],
)
def test_list(kind: str, name: str, origin: str) -> None:
    code, out, _ = invoke("list", kind)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
    assert origin in line


def test_a_sweep_of_what_is_federated_only_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "shared.yaml"
    file.write_text(
        "{name: shared, data: {name: digits, partition: {kind: iid}}, model: {backbone: digits-cnn}, "
        "fleet: [{count: 2}], federation: {rounds: 1, methods: [local]}}"
    )
    code, _, err = invoke("sweep", str(file))
    assert code == 2
    assert "federation: is all that there is here, and a sweep is of a split network" in err


def publish(folder: Path, package: str, entry_points: str) -> None:
    """A package of version 2.1, as an installer would lay it down."""
    info = folder / f"{package}-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(f"[fedsim.bottlenecks]\n{entry_points}\n")


def test_list_of_bottlenecks_says_where_each_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "quitting.py").write_text("raise SystemExit('needs [more] arguments')")
    publish(tmp_path, "half-installed", "absent = no_such_package.mine:Mine\nquits = quitting:Mine")
    publish(tmp_path, "their-package", "theirs = edge.bottlenecks.raw_features:Float16")
    publish(tmp_path, "rival", "theirs = edge.bottlenecks.raw_features:Float32")
    code, out, _ = invoke("list", "bottlenecks")
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    at = {line.split(" ")[0]: number for number, line in enumerate(lines)}
    assert lines[at["float32"] + 1] == f"fedsim {__version__}, edge.bottlenecks.raw_features:Float32"
    assert lines[at["absent"]].endswith("cannot be imported: No module named 'no_such_package'")
    assert lines[at["absent"] + 1] == "half-installed 2.1, no_such_package.mine:Mine"
    assert lines[at["quits"]].endswith("cannot be used: needs [more] arguments")
    assert "'theirs' is given twice: " in lines[at["theirs"]]
    packages = [line.partition(",")[0] for line in lines]
    assert "rival 2.1" in packages
    assert "their-package 2.1" in packages


def test_list_of_something_else_says_what_there_is() -> None:
    code, _, err = invoke("list", "planets")
    assert code == 2
    assert "planets" in err
    assert "'datasets'" in err


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_named_in_the_help_and_in_the_documentation(kind: Kind) -> None:
    code, out, _ = invoke("list", "--help")
    page = (Path(__file__).parents[2] / "docs" / "scenario.md").read_text(encoding="utf-8")
    assert code == 0
    assert re.search(rf"\b{kind}\b", out)
    assert f"`{kind}`" in page.replace("`fedsim list ", "`")


def test_list_of_a_preset_shows_its_numbers() -> None:
    code, out, err = invoke("list", "radios", "lte-2012")
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("active.up_per_rate ")]
    assert "438.39 mW/Mbps" in line
    assert "second-hand" in line
    assert "Huang et al. 2012, Table 4" in line


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("devices", "raspbery-pi-4", "fedsim: unknown device; did you mean 'raspberry-pi-4'? give the path"),
        ("radios", "lte", "4g-2021, 5g-low-band-2021"),
        ("links", "absent.toml", "fedsim: absent.toml: cannot be read"),
        ("links", "smallest.yaml", "fedsim: unknown link"),
    ],
)
def test_list_of_an_unknown_preset_is_one_message(here: Path, kind: str, name: str, said: str) -> None:
    code, out, err = invoke("list", kind, name)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_list_of_what_has_no_numbers_takes_no_name() -> None:
    code, out, err = invoke("list", "bottlenecks", "factorized")
    assert (code, out) == (2, "")
    assert "NAME" in err
    assert "only devices, radios and links can be shown by name" in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("old", "new", "place", "allowed"),
    [
        ("bottleneck:", "botleneck:", 'model.botleneck = {"name": "float16"}', "did you mean 'bottleneck'?"),
        ("digits}", "digitz}", 'data.name = "digitz"', "known are cifar10, digits, fashion-mnist"),
        ("float16", "float17", 'model.bottleneck.name = "float17"', "known are bottlefit, channel"),
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
        "did you mean 'processes'? known are processes, inprocess, virtual, containers\n"
    )
    assert fedsim("run", "absent.yaml").returncode == 2
    assert fedsim("walk").returncode == 2
    assert os.listdir(here) == ["smallest.yaml"]


def test_more_devices_than_test_samples_are_refused_before_anything_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "data"
    folder.mkdir()
    images, labels = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(folder / "fashion_mnist.npz", **arrays)
    monkeypatch.setenv("FEDSIM_DATA", str(folder))
    arguments = ["--set", "data.name=fashion-mnist", "--set", "model.backbone=resnet18-32"]
    arguments += ["--set", "model.backbone_arguments.channels=1", "--set", "model.cut=layer1"]
    code, out, err = invoke("run", "smallest.yaml", *arguments, "--set", "fleet.0.count=4")
    assert (code, out) == (2, "")
    assert 'fleet = [{"count": 4}]: has 4 devices; ' in err
    assert "the test set of 'fashion-mnist' has 3" in err
    assert sorted(os.listdir(here)) == ["data", "smallest.yaml"]


#: Overrides that make a stage of a run last longer than a test waits, and a file that it writes first.
STAGES = {
    "training": (["baselines=[local]", "model.bottleneck={name: factorized, beta: 1}"], "models/local"),
    "streaming": (["server.batch={size: 8, wait_ms: 500}"], "events/device-0.jsonl"),
}
INTERRUPTED = (signal.SIGINT, 130, "fedsim: interrupted\n")
TERMINATED = (signal.SIGTERM, 143, "")


@pytest.mark.parametrize(
    ("stage", "number", "exit_code", "said"),
    [
        pytest.param("training", *INTERRUPTED, id="SIGINT-training"),
        pytest.param("streaming", *TERMINATED, id="SIGTERM-streaming"),
        pytest.param("training", *TERMINATED, id="SIGTERM-training", marks=pytest.mark.slow),
        pytest.param("streaming", *INTERRUPTED, id="SIGINT-streaming", marks=pytest.mark.slow),
    ],
)
def test_interruption_stops_all_processes_and_leaves_nothing_behind(
    here: Path, stage: str, number: signal.Signals, exit_code: int, said: str
) -> None:
    overrides, first = STAGES[stage]
    # Where the tests run in the background, SIGINT is ignored, and children inherit that.
    code = "from signal import *; signal(SIGINT, default_int_handler); from fedsim.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "smallest.yaml", "--set", "training.epochs=[100000, 1]"]
    command += [word for override in overrides for word in ("--set", override)]
    begun = here / "runs" / ".smallest-3.partial" / first
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + 90
            while not (begun.exists() and (begun.is_dir() or begun.stat().st_size)):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, f"{stage} did not begin"
                time.sleep(0.05)
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == (2 if stage == "streaming" else 0)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (exit_code, said)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    left = {path for path in here.rglob("*") if path.is_file()} - {here / "smallest.yaml"}
    assert all(path.parent == here / "runs" / ".smallest-3.checkpoints" for path in left)  # to go on from


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
    assert load(folder / "scenario.yaml") == load(Path("smallest.yaml"), ["fleet.0.in_flight=8"], seed=5)
    assert sorted(path.name for path in folder.iterdir()) == RUN_FOLDER
    (row,) = Summary.read(folder / "summary.json").rows
    assert (row.method, row.rate, row.wire_bytes) == ("float16", None, None)
    if sys.platform == "linux":  # eight samples are in flight, so only the whole stream is measured
        assert row.provenance.bytes.stream == "measured"
        assert row.stream_wire_bytes_mean > row.frame_bytes.mean
        assert "~ " in out


@pytest.mark.parametrize("columns", [80, 140])
def test_table_is_whole_on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert console().width == columns


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_sweep_goes_through_the_files_and_reports_what_failed_in_the_end(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "other.yaml").write_text(
        SCENARIO.replace("smallest", "other").replace("seed: 3", "seeds: [4, 5]")
    )
    seen = []

    def record(scenario: Scenario, out: Path | None, console: Console, **options: object) -> Path:
        seen.append((scenario.name, out, options["seeds"], options["jobs"], options["anchor"]))
        if scenario.name == "smallest":
            raise SweepError("smallest: 1 of 2 points failed:\n  float16, seed 3: no")
        return Path("sweeps") / scenario.name

    monkeypatch.setattr(sweep_run, "sweep", record)
    code, out, err = invoke("sweep", "smallest.yaml", "other.yaml", "--jobs", "3", "--anchor", "vq")
    assert (code, out) == (1, f"Results in {Path('sweeps') / 'other'}\n")
    assert err == "fedsim: smallest: 1 of 2 points failed:\n  float16, seed 3: no\n"
    assert seen == [("smallest", None, (3,), 3, "vq"), ("other", None, (4, 5), 3, "vq")]
    seen.clear()
    arguments = ["other.yaml", "smallest.yaml", "--seeds", "7, 8", "--jobs", "1", "--out", "here", "--quiet"]
    code, out, _ = invoke("sweep", *arguments)
    assert (code, out) == (1, f"{Path('sweeps') / 'other'}\n")
    assert [(name, folder, seeds) for name, folder, seeds, *_ in seen] == [
        ("other", Path("here/other"), (7, 8)),
        ("smallest", Path("here/smallest"), (7, 8)),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["smallest.yaml", "--seeds", "1,x"], "no list of whole numbers"),
        (["smallest.yaml", "--seeds", "1,1"], "has a seed twice"),
        (["smallest.yaml", "smallest.yaml"], "each needs a folder of its own"),
        (["smallest.yaml", "--set", "engine=ray"], "unknown engine"),
        (["smallest.yaml", "--jobs", "0"], "--jobs"),
    ],
)
def test_wrong_arguments_of_sweep_are_one_message(here: Path, arguments: list[str], said: str) -> None:
    code, out, err = invoke("sweep", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert os.listdir(here) == ["smallest.yaml"]
