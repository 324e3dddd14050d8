"""The folder of a sweep: who writes it, and what lies where."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from fedsim.errors import OutputError, RunExistsError
from fedsim.measure.files import replacing
from fedsim.scenario import Scenario

__all__ = ["SweepFolder", "sweep_folder"]

_SCENARIO = "scenario.yaml"


@dataclass(frozen=True)
class SweepFolder:
    """Paths within a sweep's folder.

    ::

        scenario.yaml  tradeoff.json  tradeoff.csv  tradeoff.png  compute.png
        points/LABEL/seed-S/      a run folder for each point or baseline and seed
        teachers/                 trained uncut networks
        checkpoints/              trainings that are not finished
        logs/                     what the workers wrote
    """

    path: Path

    @property
    def teachers(self) -> Path:
        """Trained uncut networks."""
        return self.path / "teachers"

    @property
    def checkpoints(self) -> Path:
        """Trainings that are not finished, a folder for each job."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """What the workers wrote."""
        return self.path / "logs"


@contextmanager
def sweep_folder(path: Path, scenario: Scenario) -> Iterator[SweepFolder]:
    """The folder, made where it is absent, for this process alone while inside.

    Raises:
        RunExistsError: another sweep is writing it, or it holds something else.
        OutputError: it cannot be written.
    """
    try:
        if path.exists() and not (path.is_dir() and _is_ours(path)):
            raise RunExistsError(f"{path} exists and is no sweep folder; name another with --out")
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"--out {path}: cannot be written: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunExistsError(
                f"another sweep is writing {path}; wait for it, or name another with --out"
            ) from None
        with replacing(path / _SCENARIO) as temporary:
            temporary.write_text(yaml.safe_dump(scenario.resolved(), sort_keys=False), encoding="utf-8")
        yield SweepFolder(path)
    finally:
        os.close(lock)


def _is_ours(path: Path) -> bool:
    """Whether a folder is a sweep's, or has nothing in it."""
    names = {entry.name for entry in path.iterdir()}
    return not names - {".lock"} or (_SCENARIO in names and "summary.json" not in names)
