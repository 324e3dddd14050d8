import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedsim.errors import OutputError, RunExistsError
from fedsim.run_folder import run_folder


def fill(out: Path, text: str, *, force: bool = False) -> None:
    with run_folder(out, force=force) as work:
        (work / "summary.json").write_text(text)


def fail(out: Path, *, force: bool = False) -> None:
    with run_folder(out, force=force) as work:
        (work / "summary.json").write_text("broken")
        raise ZeroDivisionError


def test_a_finished_run_stands_in_its_place_and_nothing_beside_it(tmp_path: Path) -> None:
    fill(tmp_path / "runs" / "a", "one")
    assert (tmp_path / "runs" / "a" / "summary.json").read_text() == "one"
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


def test_it_is_replaced_only_when_asked_and_only_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "a"
    fill(out, "one")
    with pytest.raises(RunExistsError, match="--force"):
        fill(out, "two")
    with pytest.raises(ZeroDivisionError):
        fail(out, force=True)
    assert (out / "summary.json").read_text() == "one"
    fill(out, "two", force=True)
    assert (out / "summary.json").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "runs" / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".a.partial"
    left.mkdir()
    (left / "half").write_text("written")
    with run_folder(tmp_path / "a") as work:
        assert list(work.iterdir()) == []
        (work / "summary.json").write_text("one")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(b"x")
    (tmp_path / "file").write_text("x")
    for name in ("photos", "file"):
        with pytest.raises(RunExistsError, match="no run folder"):
            fill(tmp_path / name, "two", force=True)
    assert (tmp_path / "photos" / "one.png").exists()


def test_an_empty_folder_is_welcome(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    fill(tmp_path / "a", "one")
    assert (tmp_path / "a" / "summary.json").read_text() == "one"


def test_two_runs_cannot_write_the_same_folder(tmp_path: Path) -> None:
    out = tmp_path / "a"
    with run_folder(out) as work:
        (work / "summary.json").write_text("one")
        with pytest.raises(RunExistsError, match="another run is writing"):
            fill(out, "two")
        with pytest.raises(RunExistsError, match="another run is writing"):
            fill(tmp_path / "b" / ".." / "a", "two", force=True)
        assert (work / "summary.json").read_text() == "one"
        fill(tmp_path / "c", "three")
    assert (out / "summary.json").read_text() == "one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c"]


def test_a_run_that_was_killed_keeps_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from fedsim.run_folder import run_folder\n"
        "with run_folder(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.lock", ".a.partial"]
    fill(tmp_path / "a", "one")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_finished_run_on_its_way_out_is_put_back(tmp_path: Path) -> None:
    out = tmp_path / "a"
    fill(out, "one")
    out.rename(tmp_path / ".a.old")  # as far as a run got that died while it replaced this one
    with pytest.raises(RunExistsError, match="--force"):
        fill(out, "two")
    assert (out / "summary.json").read_text() == "one"
    out.rename(tmp_path / ".a.old")
    with pytest.raises(ZeroDivisionError):
        fail(out, force=True)
    assert (out / "summary.json").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_finished_run_outlives_a_successor_that_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a"
    fill(out, "one")
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name == ".a.partial":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(
        OutputError, match=r"No space left on device; the finished run lies in .*\.a\.partial"
    ):
        fill(out, "two", force=True)
    assert (out / "summary.json").read_text() == "one"
    assert (tmp_path / ".a.partial" / "summary.json").read_text() == "two"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.partial", "a"]


def test_relative_path_means_the_same_place_throughout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with run_folder(Path("runs/a")) as work:
        monkeypatch.chdir("elsewhere")
        (work / "summary.json").write_text("one")
    assert (tmp_path / "runs" / "a" / "summary.json").exists()
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", "--out .: is the working folder or encloses it"),
        ("..", "--out ..: is the working folder or encloses it"),
        ("/", "--out /: is the working folder or encloses it"),
        ("file/a/b", "--out file/a/b: .*/file is no folder"),
        ("new/" + 300 * "a", "cannot be written: File name too long"),
        ("/proc/a", "--out /proc/a: cannot be written: "),
    ],
)
def test_places_that_cannot_hold_a_run_are_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=said), run_folder(Path(out), force=True):
        pytest.fail("the run began")
    assert os.listdir(tmp_path) == ["file"]
