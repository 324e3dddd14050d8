"""What the meters of the machine said while a method ran: of its devices, its server and all else there.

It is no energy of a device, and is never added to one: its events have stages of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import Dataset

from edge.energy import What
from fedsim.measure.schema import MeterReading

__all__ = ["MACHINE_STAGES", "NO_METER", "machine", "machine_events", "machine_stage"]

_MACHINE = "machine"
_COLUMNS = ("method", "client", "stage", "duration_s", "joules", "provenance", "detail")

#: The client of the event that says why there is no meter; of all others it is the name of the meter.
NO_METER = "none"


def machine_stage(what: What | None) -> str:
    """The stage of the events of a meter that measures this; of None, of :data:`NO_METER`."""
    return _MACHINE if what is None else f"{_MACHINE}-{what}"


#: The stages of such events, and what their meters measure.
MACHINE_STAGES: Mapping[str, What | None] = {machine_stage(what): what for what in (None, *get_args(What))}


def machine_events(events: Dataset) -> pa.Table:
    """Those of a ledger, of all methods."""
    return events.to_table(list(_COLUMNS), pc.field("stage").isin(list(MACHINE_STAGES)))


def machine(events: pa.Table, method: str, ended_well: int) -> list[MeterReading]:
    """What each meter said of a method, in the order of the ledger; empty where none was asked.

    Args:
        events: from :func:`machine_events`.
        method: its name.
        ended_well: samples that were answered, by the server or on the device.
    """
    return [
        MeterReading(
            meter=one["client"],
            what=MACHINE_STAGES[one["stage"]],
            sample_j=_over(one["joules"], ended_well),
            watts=_over(one["joules"], one["duration_s"]),
            seconds=one["duration_s"],
            provenance=one["provenance"],
            detail=one["detail"],
        )
        for one in events.filter(pc.equal(events["method"], method)).to_pylist()
    ]


def _over(joules: float | None, amount: float) -> float | None:
    return joules / amount if joules is not None and amount else None
