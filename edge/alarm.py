"""An alarm of an event loop that rings on time.

Epoll counts in whole milliseconds, and asyncio rounds up; at 20 Mbit/s that is two packets. Linux
has timers that are files (``timerfd_create(2)``), from which a process wakes within some tens of
microseconds, or a few hundred where it has slept for long: it is set that much early, and what is left is
waited for in a loop. Elsewhere the event loop's own timers must do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Callable

__all__ = ["Alarm"]

_EARLY_S = (6e-5, 2.4e-4)  # what it takes a process to wake, about, at least and at most
_EARLY_SHARE = 1 / 16  # of the time that it sleeps
_MONOTONIC, _ABSOLUTE = 1, 1  # CLOCK_MONOTONIC, TFD_TIMER_ABSTIME


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls ``ring`` in the running loop at the time it is set to, or soon after, and never before.

    Times are those of ``loop.time()``, which is the monotonic clock. A later setting replaces an earlier one.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._at: float | None = None
        self._closed = False
        self._handle: asyncio.TimerHandle | None = None
        self._descriptor: int | None = None
        self._libc: ctypes.CDLL | None = None
        if sys.platform.startswith("linux"):
            self._open()

    @property
    def precise(self) -> bool:
        """Whether it has a timer of the kernel's."""
        return self._descriptor is not None

    def set(self, at: float | None) -> None:
        """Ring at ``at``, once; at no time for None."""
        if at == self._at or self._closed:
            return
        self._at = at
        if self._descriptor is not None and self._libc is not None:
            setting = _Setting()
            if at is not None:
                least, most = _EARLY_S
                early = min(max(least, _EARLY_SHARE * (at - self._loop.time())), most)
                fraction, whole = math.modf(max(at - early, 0.0))
                # All zero would disarm it.
                setting.value = _Timespec(int(whole), max(math.ceil(fraction * 1e9), 1))
                if setting.value.nanoseconds >= 10**9:
                    setting.value = _Timespec(int(whole) + 1, 0)
            self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(setting), None)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if at is None else self._loop.call_at(at, self._rung)

    def close(self) -> None:
        """Never ring again. Idempotent."""
        self.set(None)
        self._closed = True
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = libc.timerfd_create(_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):  # a C library without it
            return
        if descriptor < 0:
            return
        self._libc, self._descriptor = libc, descriptor
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(BlockingIOError):  # set anew meanwhile
                os.read(self._descriptor, 8)
                self._rung()

    def _rung(self) -> None:
        while self._at is not None and self._loop.time() < self._at:
            pass  # no longer than it was set early
        self._at = None
        self._ring()
