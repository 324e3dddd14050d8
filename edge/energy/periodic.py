"""Something done again and again beside the work, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Periodic"]


class Periodic:
    """Calls ``action`` every ``interval_s`` on a thread of its own, first after one interval.

    ``action`` must not raise.
    """

    def __init__(self, action: Callable[[], None], interval_s: float) -> None:
        self._action = action
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._action()

    def stop(self) -> None:
        """Return when ``action`` has been called for the last time."""
        self._stopping.set()
        self._thread.join()
