"""docs/federation.md: what it shows works as printed."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedsim.cli import app
from fedsim.measure.schema import Summary
from fedsim.scenario_federation import FEDERATED_ENGINES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "federation.md").read_text(encoding="utf-8")


def test_the_method_of_the_page_runs_beside_those_that_come_with_fedsim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (scenario,) = [one for one in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "mymethod:" in one]
    (tmp_path / "mymethod.py").write_text(code)
    (tmp_path / "mine.yaml").write_text(scenario)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mymethod", raising=False)
    done = CliRunner().invoke(app, ["run", "mine.yaml", "--out", "run"])
    assert done.exit_code == 0, done.output
    mine, local = Summary.read(tmp_path / "run" / "summary.json").federation.rows
    assert (mine.method, mine.name, local.method) == ("mean-image", "mymethod:MeanImage", "local")
    (found,) = [one for one in mine.accuracy if (one.classes, one.test) == ("all", "global")]
    assert found.accuracy > 0.85  # 599 digits; the nearest mean image of all clients' samples together
    assert 0 < mine.rounds[0].bytes.up.payload_bytes < 64 * 4 * 10 * 10 / 4  # a quarter of float32, or less
    assert mine.rounds[0].merged == 10


def test_every_engine_is_told_of() -> None:
    rows = re.findall(r"^\| `(\w+)`.* \|$", PAGE[PAGE.index("## Engines") :], re.MULTILINE)
    assert rows[: len(FEDERATED_ENGINES)] == list(FEDERATED_ENGINES)
    commands = re.findall(r"^    fedsim run (\S+)", PAGE, re.MULTILINE)
    assert commands
    assert not [file for file in commands if not (ROOT / file).exists()]
