"""The folder of a run: made aside, put in place when the run is finished, never half-written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedsim.errors import RunExistsError

__all__ = ["SUMMARY", "run_folder"]

SUMMARY = "summary.json"


@contextmanager
def run_folder(out: Path, *, force: bool = False) -> Iterator[Path]:
    """A work folder that becomes ``out`` when the body ends, and is removed when it fails.

    What a killed run left behind is removed first. A finished run is replaced only when ``force`` is
    set, and only once its successor is complete.

    Raises:
        RunExistsError: ``out`` holds a finished run and ``force`` is not set, or it is something else.
    """
    if out.exists():
        if not (out / SUMMARY).is_file() and (not out.is_dir() or any(out.iterdir())):
            raise RunExistsError(f"{out} exists and is no run folder; name another with --out")
        if (out / SUMMARY).is_file() and not force:
            raise RunExistsError(
                f"{out} holds a finished run; replace it with --force, or name another with --out"
            )
    work = out.with_name(f".{out.name}.partial")
    old = out.with_name(f".{out.name}.old")
    for left_behind in (work, old):
        shutil.rmtree(left_behind, ignore_errors=True)
    made = [parent for parent in out.parents if not parent.exists()]
    work.mkdir(parents=True)
    try:
        yield work
        if out.exists():
            out.rename(old)
        work.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds the run by now
                parent.rmdir()
