"""A meter for machines that have none: it knows what its power is, and so does the test."""

import time

from edge.energy import Reading, What

IDLE_W, COMPUTING_W = 3.0, 7.0


class CpuMeter:
    """So many watts, and more while this thread computes."""

    def __init__(self, what: What = "package", idle_w: float = IDLE_W, computing_w: float = COMPUTING_W):
        self.name = f"{what}-0"
        self.what = what
        self._idle_w, self._more_w = idle_w, computing_w - idle_w
        self._began = (0.0, 0.0)

    def start(self) -> None:
        self._began = time.monotonic(), time.thread_time()

    def stop(self) -> Reading:
        seconds, computed = time.monotonic() - self._began[0], time.thread_time() - self._began[1]
        return Reading.measured(self._idle_w * seconds + self._more_w * computed, seconds, self.name)


class BrokenMeter(CpuMeter):
    def stop(self) -> Reading:
        return Reading.unavailable(1.0, "the counter stands still")
