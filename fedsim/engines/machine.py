"""The energy of this machine while the methods of a run have their turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edge.bundle import device_spec
from edge.energy import Reading, Window, read_window, sources
from edge.journal import Journal
from edge.meter import Event
from fedsim.engines.plan import Method
from fedsim.measure.machine import NO_METER, machine_stage

__all__ = ["Machine"]


class Machine:
    """The meters of this machine, which are looked for when it is constructed. Measures a method at a time.

    What each meter says of a method, or why it says nothing, becomes an event. Where there is no meter one
    event says why.

    Args:
        run: name of the run.
        events: file for the events, which must not be there.
        sysfs: where meters are looked for.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, run: str, events: Path, sysfs: Sequence[Path]) -> None:
        found = sources(sysfs)
        self._meters = [meter for source in found for meter in source.meters]
        self._without = "; ".join(f"{source.name}: {source.detail}" for source in found)
        self._run = run
        with read_window(self._meters):
            pass  # a driver may take its time at first
        self._journal = Journal(events)
        self._measuring = ExitStack()
        self._open: tuple[Method, float, Window] | None = None

    def begin(self, method: Method) -> None:
        """Measure from now on, for this method."""
        self.end()
        began = time.time()
        self._open = method, began, self._measuring.enter_context(read_window(self._meters))

    def end(self) -> None:
        """Measure no longer, and write down what was measured; nothing where nothing is.

        Raises:
            BundleError: the method's bundle is gone.
            JournalError: the events could not be written.
        """
        if self._open is None:
            return
        (method, began, window), self._open = self._open, None
        self._measuring.close()
        rate = device_spec(method.bundle).rate
        stages = {meter.name: machine_stage(meter.what) for meter in self._meters}
        self._journal.append(
            Event(
                run=self._run,
                method=method.name,
                client=name,
                stage=stages.get(name, machine_stage(None)),
                start_s=began,
                duration_s=reading.seconds,
                provenance=reading.provenance,
                rate=rate,
                joules=reading.joules,
                detail=reading.detail,
            )
            for name, reading in self._said(window).items()
        )

    def close(self) -> None:
        """Leave the meters alone; what is being measured is not written down."""
        self._open = None
        self._measuring.close()
        self._journal.close()

    def _said(self, window: Window) -> dict[str, Reading]:
        if self._meters:
            return window.readings
        (reading,) = window.readings.values()
        return {NO_METER: Reading.unavailable(reading.seconds, self._without)}
