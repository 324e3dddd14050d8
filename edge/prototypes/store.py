"""The class statistics of a tail server, in a file that is as new as the last push it has replied to.

A push is counted exactly once: it has an id, and the ids of the pushes counted last stand in the file beside
what they added up to. Both are replaced at once, so that no crash comes between them.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edge.prototypes.limits import LARGEST, PUSH_BYTES, most_rows
from edge.prototypes.nearest import Prototypes
from edge.prototypes.statistics import ClassStatistics, StatisticsError

__all__ = ["PUSHES", "PrototypeStore", "StoreError"]

#: Pushes that are remembered; one that is repeated after so many others counts twice.
PUSHES = 1 << 16

_FORMAT = "1"
_MOST_SAMPLES = 1 << 53  # float64 has no next number
_MODEL = re.compile(r"[0-9a-f]{16}")


class StoreError(ValueError):
    """What is asked of a store does not go together with what is in it."""


class PrototypeStore:
    """Adds up pushes. One process at a time has the file.

    Args:
        path: of the file; it is made where there is none.
        dimension: of the features.
        model: id of the model that all features come from; by default the one that the first push names.
        most_classes: classes are 0 to one less than this; by default any.

    Raises:
        StoreError: a file that is damaged, in use, or has another dimension, model, or more classes.
        OSError: it cannot be written.
    """

    def __init__(
        self, path: Path, dimension: int, *, model: str | None = None, most_classes: int | None = None
    ) -> None:
        self._path = Path(path)
        self._most_classes = most_classes
        self._lock = _locked(self._path)
        try:
            self._load(dimension, model)
        except BaseException:
            self.close()
            raise

    def _load(self, dimension: int, model: str | None) -> None:
        found, statistics, self._pushes = _read(self._path, dimension)
        if model is not None and found is not None and found != model:
            raise StoreError(f"{self._path} has the features of model {found}, expected {model}")
        #: Model that all features come from; None where nobody has said.
        self.model = found if model is None else model
        try:
            self._check_classes(statistics)
        except StatisticsError as error:
            raise StoreError(f"{self._path}: {error}") from error
        self._save(self.model, statistics, self._pushes)
        self._know(statistics)

    def _know(self, statistics: ClassStatistics) -> None:
        #: Of all samples counted so far.
        self.statistics = statistics
        #: Their means; None where there is none. Another thread may read this at any time.
        self.prototypes = Prototypes.of(statistics) if len(statistics) else None

    @property
    def dimension(self) -> int:
        """Of the features."""
        return self.statistics.dimension

    def add(self, push: bytes, model: str, statistics: ClassStatistics) -> bool:
        """Count a push. Whatever is raised, nothing has changed.

        Args:
            push: its id, 16 bytes.
            model: id of the model that the features come from, 16 hex digits.
            statistics: of one device's samples.

        Returns:
            whether it is counted now; False where it had been counted before.

        Raises:
            StatisticsError: statistics that cannot be counted, whatever is in the store.
            StoreError: features of another model, or no room for so many rows.
            OSError: the file cannot be written.
        """
        self._check(push, model, statistics)
        if push in self._pushes:
            return False
        merged = ClassStatistics.merged([self.statistics, statistics])
        if len(merged) > (most := most_rows(self.dimension)):
            raise StoreError(
                f"{len(merged)} rows with those that are there already, there is room for {most}"
            )
        pushes = dict.fromkeys([*self._pushes, push][-PUSHES:])
        self._save(model, merged, pushes)
        self.model, self._pushes = model, pushes
        self._know(merged)
        return True

    def _check(self, push: bytes, model: str, statistics: ClassStatistics) -> None:
        if len(push) != PUSH_BYTES:
            raise StatisticsError(f"the id of the push has {len(push)} bytes, expected {PUSH_BYTES}")
        if not _MODEL.fullmatch(model):
            raise StatisticsError(f"model id {model[:64]!r}, expected 16 hex digits")
        if self.model not in {None, model}:
            raise StoreError(f"features of model {model}, the prototypes are of {self.model}")
        if not len(statistics):
            raise StatisticsError("no samples")
        if statistics.squares is not None:
            raise StatisticsError("sums of squares, of which the server has no use")
        if statistics.dimension != self.dimension:
            raise StatisticsError(f"features have {statistics.dimension} values, expected {self.dimension}")
        self._check_classes(statistics)
        total = int(statistics.counts.astype(object).sum()) + int(self.statistics.counts.sum())
        if total > _MOST_SAMPLES:
            raise StatisticsError(f"{total} samples with those counted already, at most 2^53 can be")
        far = np.abs(statistics.means).max(initial=0, axis=1) > LARGEST
        if far.any():
            row = int(np.flatnonzero(far)[0])
            value = np.abs(statistics.means[row]).max()
            raise StatisticsError(
                f"the mean of class {statistics.classes[row]} has a value of {value:g}, "
                f"allowed are up to {LARGEST:g}"
            )

    def _check_classes(self, statistics: ClassStatistics) -> None:
        most = self._most_classes
        if most is not None and len(statistics) and statistics.classes[-1] >= most:
            raise StatisticsError(f"class {statistics.classes[-1]} is unknown, allowed are 0 to {most - 1}")

    def _save(self, model: str | None, statistics: ClassStatistics, pushes: dict[bytes, None]) -> None:
        arrays: dict[str, NDArray[Any]] = {
            "classes": statistics.classes,
            "slots": statistics.slots,
            "counts": statistics.counts,
            "sums": statistics.sums,
            "pushes": np.frombuffer(b"".join(pushes), np.uint8).reshape(-1, PUSH_BYTES),
        }
        data = save(arrays, {"format": _FORMAT, "model": model or ""})
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the reply to a push may not outlive it
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another process have the file. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(path: Path) -> int:
    """A descriptor that keeps other processes off a file: of another beside it, since it is replaced."""
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreError(f"{path} is in use by another server") from None
    return lock


def _read(path: Path, dimension: int) -> tuple[str | None, ClassStatistics, dict[bytes, None]]:
    """Model, statistics and pushes of a file; none of each where there is no file."""
    if not path.exists():
        return None, ClassStatistics.empty(dimension), {}
    open_: Any = safe_open  # its methods have no annotations
    try:
        with open_(path, framework="np") as file:
            about: dict[str, str] = file.metadata() or {}
            arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["format"] != _FORMAT:
            raise StoreError(f"{path} has format {about['format']!r}, this version reads {_FORMAT!r}")
        pushes = arrays.pop("pushes")
        if pushes.dtype != np.uint8 or pushes.shape != (len(pushes), PUSH_BYTES):
            raise StoreError(f"{path} is damaged: pushes are {pushes.dtype}{list(pushes.shape)}")
        statistics = ClassStatistics(**arrays)
        model = about["model"] or None
    except StoreError:
        raise
    except KeyError as error:
        raise StoreError(f"{path} has no prototypes, or is damaged: {error.args[0]!r} is missing") from error
    except (SafetensorError, StatisticsError, TypeError) as error:
        raise StoreError(f"{path} has no prototypes, or is damaged: {error}") from error
    if statistics.dimension != dimension:
        raise StoreError(f"{path} has features of {statistics.dimension} values, the models make {dimension}")
    return model, statistics, dict.fromkeys(map(bytes, pushes))
