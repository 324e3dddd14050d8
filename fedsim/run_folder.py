"""The folder of a run: made aside, put in place when the run is finished, never half-written."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedsim.errors import EngineError, FederationError, OutputError, RunExistsError

__all__ = ["SUMMARY", "checkpoints_of", "kept_for_later", "run_folder"]

SUMMARY = "summary.json"

_ATTEMPTS = 100  # at a lock file that its last holder may be removing


@contextmanager
def run_folder(out: Path, *, force: bool = False) -> Iterator[Path]:
    """A work folder that becomes ``out`` when the body ends, and is removed when it fails.

    ::

        .NAME.lock       held while a run writes
        .NAME.partial    the work folder; what a killed run left in it is removed by the next one
        .NAME.old        the finished run while its successor takes its place

    What is to outlive a kill, so that the next run can go on, belongs in :func:`checkpoints_of`.

    A finished run is replaced only when ``force`` is set, and only once its successor is complete. One
    that was on its way out when the machine went down is put back.

    Raises:
        RunExistsError: ``out`` holds a finished run and ``force`` is not set, or it is something else,
            or another run is writing it.
        OutputError: nothing can be written there. A finished run that cannot be put in its place is
            kept in the work folder, and the message says so.
    """
    asked = out
    with _writing(asked):
        out = _real(asked)
    work, old = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old")
    with _locked(out, asked):
        with _writing(asked):
            _restore(out, old)
            _check_free(out, asked, force)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        try:
            yield work
            _put_in_place(work, out, old)
        except _MisplacedError as error:
            raise OutputError(f"--out {asked}: {error}; the finished run lies in {work}") from error
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise


def checkpoints_of(out: Path) -> Path:
    """The folder ``.NAME.checkpoints`` beside a run's, for trainings that are not finished."""
    real = Path(os.path.realpath(out))
    return real.with_name(f".{real.name}.checkpoints")


@contextmanager
def kept_for_later(checkpoints: Path) -> Iterator[None]:
    """Keep the checkpoints of a run that is interrupted, or that ends for what no training is to blame for.

    That is a full disk, an engine, or one method of a federation, beside which others are finished.
    """
    try:
        yield
    except (OSError, OutputError, EngineError, FederationError):
        raise
    except Exception:
        shutil.rmtree(checkpoints, ignore_errors=True)
        raise
    shutil.rmtree(checkpoints, ignore_errors=True)


class _MisplacedError(Exception):
    """A finished run could not be put in its place."""


def _real(asked: Path) -> Path:
    """The absolute path of a folder that a run could stand in."""
    out = Path(os.path.realpath(asked))
    if out in (Path.cwd(), *Path.cwd().parents):
        raise OutputError(f"--out {asked}: is the working folder or encloses it; name a folder within it")
    nearest = next(parent for parent in out.parents if parent.exists())
    if not nearest.is_dir():
        raise OutputError(f"--out {asked}: {nearest} is no folder")
    return out


def _restore(out: Path, old: Path) -> None:
    """Put a finished run back that its successor never replaced; remove one that it did."""
    if not (out / SUMMARY).is_file() and (old / SUMMARY).is_file() and _is_empty(out):
        old.rename(out)
    _remove(old)


def _check_free(out: Path, asked: Path, force: bool) -> None:
    if (out / SUMMARY).is_file():
        if not force:
            raise RunExistsError(
                f"{asked} holds a finished run; replace it with --force, or name another with --out"
            )
    elif not _is_empty(out):
        raise RunExistsError(f"{asked} exists and is no run folder; name another with --out")


def _put_in_place(work: Path, out: Path, old: Path) -> None:
    try:
        if (out / SUMMARY).is_file():
            out.rename(old)
        work.rename(out)
    except BaseException as error:
        if old.exists() and not out.exists():
            old.rename(out)
        if isinstance(error, OSError):
            raise _MisplacedError(f"cannot be replaced: {error.strerror or error}") from error
        raise
    _remove(old)


def _remove(old: Path) -> None:
    with suppress(OSError):  # without its summary a half-removed run is not taken for a whole one
        (old / SUMMARY).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    """Whether nothing is there, or a folder with nothing in it."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def _locked(out: Path, asked: Path) -> Iterator[None]:
    """Keep every other run away from ``out``; make the folder it lies in, and remove it if it stays empty."""
    with _writing(asked):
        made = [parent for parent in out.parents if not parent.exists()]
    path = out.with_name(f".{out.name}.lock")
    descriptor = -1
    try:
        with _writing(asked):
            descriptor = _lock(path)
        yield
    finally:
        if descriptor >= 0:
            path.unlink(missing_ok=True)
            os.close(descriptor)
        for parent in made:
            with suppress(OSError):  # it holds the run by now
                parent.rmdir()


def _lock(path: Path) -> int:
    """A descriptor of the lock file, exclusively locked. The system lets go of it when its holder dies."""
    for attempt in range(1, _ATTEMPTS + 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # whoever made the folder may have just removed it
            if attempt == _ATTEMPTS:
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has just removed it
    raise BlockingIOError


@contextmanager
def _writing(asked: Path) -> Iterator[None]:
    """Report what the system refuses as an error of ``--out``."""
    try:
        yield
    except BlockingIOError:
        raise RunExistsError(
            f"another run is writing {asked}; wait for it, or name another with --out"
        ) from None
    except OSError as error:
        raise OutputError(f"--out {asked}: cannot be written: {error.strerror or error}") from error
