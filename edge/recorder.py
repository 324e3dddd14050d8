"""Writes down what became of the samples of one device under one method."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edge.clock import Clock
from edge.journal import Journal
from edge.meter import Event, Outcome, Provenance

__all__ = ["Recorder"]


class Recorder:
    """The events of one device and one method, into its journal.

    Args:
        journal: where they go.
        run: name of the run.
        method: the row of the results table.
        client: name of the device.
        rate: the method's rate parameter, where it has one.
    """

    def __init__(self, journal: Journal, run: str, method: str, client: str, rate: float | None) -> None:
        self._journal = journal
        self._common: dict[str, Any] = {"run": run, "method": method, "client": client, "rate": rate}
        self._epoch = time.time() - time.perf_counter()

    def sample(
        self,
        number: int,
        label: int | None,
        clock: Clock,
        outcome: Outcome,
        *,
        sent: Mapping[str, Any] | None = None,
        prediction: int | None = None,
        detail: str | None = None,
    ) -> None:
        """A sample that is final: its stages and ``total``, all at once. Stops the clock, if it still runs.

        Args:
            number: the sample's number in the data.
            label: its true class.
            clock: its stages.
            outcome: what became of it.
            sent: fields of the event ``send``: bytes and bits.
            prediction: the class it was answered with.
            detail: why it failed or was answered locally, what else was odd.

        Raises:
            JournalError: the events could not be written.
        """
        if clock.ended is None:
            clock.stop()
        events = [
            self._event(
                stage,
                start + self._epoch,
                duration,
                provenance="modelled" if stage in clock.modelled else "measured",
                sample=number,
                **(sent or {} if stage == "send" else {}),
            )
            for stage, start, duration in clock.spans
        ]
        total = self._event(
            "total",
            clock.began + self._epoch,
            (clock.ended or clock.began) - clock.began,
            sample=number,
            outcome=outcome,
            label=label,
            prediction=prediction,
            due_s=None if clock.due is None else clock.due + self._epoch,
            detail=detail,
        )
        self._journal.append([*events, total])

    def stream(self, opened_at: float, duration_s: float, **rest: Any) -> None:
        """A stream that has ended; ``opened_at`` is Unix time.

        Raises:
            JournalError: the event could not be written.
        """
        self._journal.append([self._event("stream", opened_at, duration_s, **rest)])

    def _event(
        self,
        stage: str,
        start_s: float,
        duration_s: float,
        provenance: Provenance = "measured",
        **rest: Any,
    ) -> Event:
        return Event(
            stage=stage,
            start_s=start_s,
            duration_s=duration_s,
            provenance=provenance,
            **self._common,
            **rest,
        )
