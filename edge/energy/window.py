"""The energy of a block of code, by all meters of the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge.energy.discovery import sources
from edge.energy.meter import Meter, Reading, What

__all__ = ["Window", "read_window"]


class Window:
    """What the meters said of a block of code; empty until it has ended.

    Attributes:
        readings: of each meter by name. Where there is none, of ``none``, with the reason.
    """

    def __init__(self) -> None:
        self.readings: dict[str, Reading] = {}
        self._kinds: dict[str, What] = {}

    def total(self, *kinds: What) -> Reading:
        """The sum over all meters of these kinds, such as ``total("package", "dram")``.

        Unavailable where a kind has no meter, or one of its meters no reading: a sum that lacks a part
        would look like a reading of the whole.

        Raises:
            ValueError: no kind; or ``soc`` or ``external`` with another, which they hold already.
        """
        if not kinds or (len(set(kinds)) > 1 and {"soc", "external"} & set(kinds)):
            raise ValueError(
                f"no total of {', '.join(kinds) or 'nothing'}: name any of package, dram and gpu, or soc or "
                "external alone"
            )
        seconds = max((reading.seconds for reading in self.readings.values()), default=0.0)
        chosen = {name: self.readings[name] for name, kind in self._kinds.items() if kind in kinds}
        faults = [f"no meter of {kind}" for kind in kinds if kind not in self._kinds.values()]
        faults += [f"{name}: {reading.detail}" for name, reading in chosen.items() if reading.joules is None]
        if faults:
            return Reading.unavailable(seconds, "; ".join(faults))
        joules = sum(reading.joules or 0.0 for reading in chosen.values())
        return Reading.measured(joules, seconds, f"sum of {', '.join(chosen)}")


@contextmanager
def read_window(meters: Sequence[Meter] | None = None) -> Iterator[Window]:
    """Measure the energy of a block of code.

    >>> with read_window([]) as window:
    ...     _ = sum(range(1000))
    >>> window.readings["none"].provenance, window.readings["none"].joules
    ('unavailable', None)

    Args:
        meters: to measure with; by default all of this machine, which are looked for before the block begins.

    Raises:
        ValueError: two meters of one name.
        RuntimeError: a meter that measures another window already.
    """
    reason = "no meter was given"
    if meters is None:
        found = sources()
        meters = [meter for source in found for meter in source.meters]
        reason = "; ".join(f"{source.name}: {source.detail}" for source in found)
    names = [meter.name for meter in meters]
    if len(set(names)) < len(names):
        raise ValueError(f"the meters {', '.join(names)} have not each a name of its own")
    window = Window()
    started: list[Meter] = []
    began = time.monotonic()
    try:
        for meter in meters:
            meter.start()
            started.append(meter)
        yield window
    finally:
        ended = {meter.name: meter.stop() for meter in reversed(started)}
        window.readings = {name: ended[name] for name in names if name in ended}
        window._kinds = {meter.name: meter.what for meter in started}
        if not meters:
            window.readings["none"] = Reading.unavailable(time.monotonic() - began, reason)
