import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedsim.errors import ScenarioError
from fedsim.plugins import importable
from fedsim.scenario import load

TELL = """
import json, subprocess, sys
from pathlib import Path
from fedsim.plugins import importable
with importable(Path("plans/mine.yaml")):
    import beside, here
    child = [sys.executable, "-m", "here"]
    said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
print(json.dumps([beside.__file__, here.__file__, json.loads(said)]))
"""


def test_modules_beside_the_scenario_and_in_the_working_folder_are_found_by_children_too(
    tmp_path: Path,
) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "beside.py").write_text("")
    (tmp_path / "here.py").write_text("import beside, json; print(json.dumps(beside.__file__))")
    command = [sys.executable, "-P", "-c", TELL]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    beside = str((tmp_path / "plans" / "beside.py").resolve())
    assert json.loads(done.stdout.splitlines()[-1]) == [beside, str(tmp_path.resolve() / "here.py"), beside]


@pytest.mark.parametrize("inherited", [None, "/somewhere"])
def test_the_search_path_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inherited: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if inherited:
        monkeypatch.setenv("PYTHONPATH", inherited)
    before = list(sys.path)
    with contextlib.suppress(InterruptedError), importable(Path("a.yaml"), Path("plans/b.yaml")):
        folders = [str(tmp_path), str(tmp_path / "plans")]
        assert sys.path[:2] == folders
        assert os.environ["PYTHONPATH"].split(os.pathsep) == folders + ([inherited] if inherited else [])
        raise InterruptedError
    assert sys.path == before
    assert os.environ.get("PYTHONPATH") == inherited


def test_a_scenario_that_names_a_plug_in_which_cannot_be_imported_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedsim.bottlenecks]\ntheirs = no_such_module:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ndata: {name: digits}\nfleet: [{count: 1}]\n"
        "model: {backbone: digits-cnn, cut: stage2, bottleneck: {name: theirs}}\n"
    )
    with pytest.raises(ScenarioError, match=r"'no_such_module:Mine' cannot be imported: No module named"):
        load(tmp_path / "mine.yaml")
