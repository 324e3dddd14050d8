from pathlib import Path

import pytest

from fedsim.errors import RunExistsError
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
