"""What a run ran on: interpreter, machine, libraries, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

import edge
import fedsim
from fedsim.measure.schema import Environment

__all__ = ["describe", "git_state"]

_GIT_TIMEOUT_S = 10.0


def describe() -> Environment:
    """The environment of this process."""
    sources = [Path(package.__file__ or ".").resolve().parent for package in (edge, fedsim)]
    commit, dirty = git_state(sources)
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=_cpu_model(),
        cpus=_usable_cpus(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        numpy=version("numpy"),
        constriction=version("constriction"),
        fedsim=fedsim.__version__,
        git_commit=commit,
        git_dirty=dirty,
    )


def git_state(sources: list[Path]) -> tuple[str | None, bool | None]:
    """The commit that holds the folders ``sources``, and whether they differ from it.

    A repository that merely surrounds them, such as one with a virtual environment inside it, does
    not count: (None, None), as without git or without a commit.
    """
    folder, paths = sources[0], [str(s) for s in sources]
    if not _git(folder, "ls-files", "--", *paths):
        return None, None
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None, None
    changes = _git(folder, "status", "--porcelain", "--", *paths)
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where there is no git or it refuses."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor()) or None
