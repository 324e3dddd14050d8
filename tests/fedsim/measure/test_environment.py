import os
import platform
import subprocess
from pathlib import Path

import torch

from fedsim.measure.environment import describe, git_state


def git(folder: Path, *arguments: str) -> str:
    author = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, env={**os.environ, **author}, capture_output=True, text=True, check=True
    ).stdout.strip()


def checkout(folder: Path) -> Path:
    package = folder / "package"
    package.mkdir(parents=True)
    (package / "a.py").write_text("A = 1\n")
    git(folder, "init", "--quiet")
    return package


def test_this_process_is_described() -> None:
    found = describe()
    assert found.python == platform.python_version()
    assert found.torch == torch.__version__
    assert found.threads == torch.get_num_threads()
    assert 1 <= found.cpus <= (os.cpu_count() or 1)
    assert (found.git_commit is None) == (found.git_dirty is None)


def test_the_commit_of_a_checkout_and_whether_it_changed(tmp_path: Path) -> None:
    package = checkout(tmp_path)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state([package]) == (commit, False)

    (tmp_path / "notes.txt").write_text("beside the package\n")
    assert git_state([package]) == (commit, False)
    (package / "b.py").write_text("B = 2\n")
    assert git_state([package]) == (commit, True)
    (package / "b.py").unlink()
    (package / "a.py").write_text("A = 2\n")
    assert git_state([package]) == (commit, True)


def test_without_a_commit_or_a_repository_there_is_none(tmp_path: Path) -> None:
    package = checkout(tmp_path / "fresh")
    assert git_state([package]) == (None, None)
    git(package.parent, "add", ".")
    assert git_state([package]) == (None, None)
    outside = tmp_path / "plain"
    outside.mkdir()
    assert git_state([outside]) == (None, None)


def test_a_repository_around_an_installation_does_not_count(tmp_path: Path) -> None:
    checkout(tmp_path)
    (tmp_path / ".gitignore").write_text(".venv/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "somebody's project")
    installed = tmp_path / ".venv" / "fedsim"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert git_state([installed]) == (None, None)
