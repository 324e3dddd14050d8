"""``fedsim plan`` from the command line, on a run folder and a fleet."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsim.cli import app

from .folders import LARGE, LOCAL, SMALL, make_run

SCENARIO = """
name: cameras
data: {name: digits}
model: {backbone: digits-cnn, cut: stage2, bottleneck: {name: float16}}
fleet: [{count: 2, device: raspberry-pi-4, link: lte-2012}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cameras.yaml").write_text(SCENARIO)
    make_run(tmp_path / "run", [LOCAL, SMALL, LARGE])
    return tmp_path


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["plan", "cameras.yaml", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_goal_that_is_met(here: Path) -> None:
    files = ["--json", "plan.json", "--plot", "plan.png"]
    code, out, err = invoke(
        "--from", "run", "--accuracy", "0.9", "--bytes", "40", "--without", "local", *files
    )
    assert (code, err) == (0, "")
    assert "Recommended: integer-4, cut at stage2, bottleneck integer." in out
    assert "--model run/models/integer-4" in out
    content = json.loads((here / "plan.json").read_text())
    assert (content["recommended"], content["met"]) == ("integer-4", True)
    assert content["settings"][0]["quantities"]["joules"] > 0
    assert (here / "plan.png").stat().st_size > 10_000


def test_a_goal_that_cannot_be_met_is_exit_code_1(here: Path) -> None:
    code, out, err = invoke("--from", "run", "--latency-ms", "0.001", "--set", "fleet.0.count=1")
    assert (code, err) == (1, "")
    assert "No setting meets the goal." in out
    assert "p95 latency at most 0.001 ms: no setting keeps to it, the nearest is local with 4" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "run", "--accuracy", "90"], "fedsim: --accuracy = 90: allowed is a number from 0 to 1"),
        (["--from", "absent"], "fedsim: --from absent: no such folder"),
        (["--from", "run", "--set", "fleet.0.link=lte-2013"], "did you mean"),
        (["--from", "run", "--set", "fleet.0.device=null", "--joules", "1"], "fleet.N.device"),
        ([], "--from"),
    ],
)
def test_wrong_arguments_are_one_message_and_exit_code_2(here: Path, arguments: list[str], said: str) -> None:
    code, out, err = invoke(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_scenario_that_is_federated_only_is_refused(here: Path) -> None:
    (here / "cameras.yaml").write_text(
        "{name: shared, data: {name: digits, partition: {kind: iid}}, model: {backbone: digits-cnn}, "
        "fleet: [{count: 2}], federation: {rounds: 1, methods: [local]}}"
    )
    code, _, err = invoke("--from", "run")
    assert code == 2
    assert "a plan is of a split network" in err
