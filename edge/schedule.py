"""When the samples of a device are due."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

__all__ = ["Schedule", "ScheduleError"]

_AT, _PAUSE = "at_s", "pause_s"


class ScheduleError(ValueError):
    """A schedule that cannot be kept. The message says what is wrong with it and what is allowed."""


@dataclass(frozen=True, eq=False, slots=True)
class Schedule:
    """Times at which the samples of a device are due, or pauses between them.

    Args:
        seconds: float64 [samples]. Times count from when the device begins, and never go back; a pause counts
            from the latest answer, or from when the device begins where there is none yet.
        paused: whether they are pauses.

    Raises:
        ScheduleError: not one dimension, a number below 0 or not finite, or times that go back.
    """

    seconds: NDArray[np.float64]
    paused: bool = False

    def __post_init__(self) -> None:
        name = _PAUSE if self.paused else _AT
        if self.seconds.ndim != 1 or self.seconds.dtype != np.float64:
            found = f"{self.seconds.dtype}{list(self.seconds.shape)}"
            raise ScheduleError(f"{name!r} is {found}, expected float64 [N]")
        bad = ~(np.isfinite(self.seconds) & (self.seconds >= 0))
        if bad.any():
            at = int(bad.argmax())
            raise ScheduleError(f"{name}[{at}] is {self.seconds[at]:g}, expected a finite number, 0 or more")
        back = np.flatnonzero(np.diff(self.seconds) < 0) + 1
        if len(back) and not self.paused:
            before, after = self.seconds[back[0] - 1 : back[0] + 1]
            raise ScheduleError(f"{name}[{back[0]}] is {after:g}, before the {before:g} ahead of it")

    @classmethod
    def read(cls, path: Path) -> Schedule:
        """The schedule of a safetensors file, which has ``at_s`` or ``pause_s``, float64 [N].

        Raises:
            ScheduleError: no such file, or its content is not as above. The message names the file.
        """
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ScheduleError(f"{path}: not a readable safetensors file: {error}") from error
        if len(found.keys() & {_AT, _PAUSE}) != 1:
            raise ScheduleError(f"{path}: has {sorted(found)}, expected one of {_AT!r} and {_PAUSE!r}")
        paused = _PAUSE in found
        try:
            return cls(found[_PAUSE if paused else _AT], paused)
        except ScheduleError as error:
            raise ScheduleError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Write the file that :meth:`read` reads."""
        save_file({_PAUSE if self.paused else _AT: np.ascontiguousarray(self.seconds)}, path)

    def check(self, samples: int) -> None:
        """See that it has one entry for each of so many samples.

        Raises:
            ScheduleError: it has more, or fewer.
        """
        if len(self.seconds) != samples:
            raise ScheduleError(f"a schedule of {len(self.seconds)} samples, but the device has {samples}")
