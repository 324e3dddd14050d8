"""Command lines whose arguments are in files, also in such as are not there yet."""

import sys
import threading
import time
from pathlib import Path

import pytest

from edge.arguments import Parser, count


def parser(*needs: str) -> Parser:
    made = Parser(needs, prog="program")
    made.add_argument("--number", type=count(1))
    return made


def test_arguments_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "arguments").write_text("--number\n3\n")
    assert parser().parse_args([f"@{tmp_path}/arguments"]).number == 3


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([f"@{tmp_path}/arguments"])
    assert ended.value.code == 2
    assert f"program: [Errno 2] No such file or directory: '{tmp_path}/arguments'" in capsys.readouterr().err


def test_a_file_that_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program needs is imported while it waits."""
    (tmp_path / "needed_here.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[bool] = []

    def write() -> None:
        deadline = time.monotonic() + 20
        while "needed_here" not in sys.modules and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append("needed_here" in sys.modules)
        (tmp_path / "partial").write_text("--number\n3\n")
        (tmp_path / "partial").rename(tmp_path / "arguments")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert parser("needed_here").parse_args([f"@@{tmp_path}/arguments"]).number == 3
    finally:
        writer.join()
        sys.modules.pop("needed_here", None)
    assert seen == [True]


def test_without_such_a_file_nothing_is_imported(tmp_path: Path) -> None:
    assert parser("no_such_module").parse_args(["--number", "3"]).number == 3
