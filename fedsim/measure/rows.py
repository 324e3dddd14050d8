"""The events of one method by their stages: of each stage only the columns that are known of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.dataset import Dataset

from edge.meter import STAGES, Provenance
from fedsim.measure.columns import SCHEMA

__all__ = ["BATTERY_EMPTY", "MethodEvents", "known", "weakest"]

Floats = NDArray[np.float64]

#: A device's battery is empty: an event of no sample and no duration.
BATTERY_EMPTY = "battery-empty"

_SIZES = ("ideal_bits", "payload_bytes", "frame_bytes", "wire_bytes", "reply_wire_bytes")
_ENDS = ("start_s", "due_s", "outcome", "label", "prediction", "client")
#: What is read of the stages of a sample ..
_SAMPLE = ("sample", "duration_s", "joules")
_MORE = {"send": (*_SIZES, "provenance"), "total": _ENDS}
#: .. and of those of a device.
_DEVICE = ("client", "joules", "wire_bytes", "provenance")


@dataclass(frozen=True, eq=False)
class MethodEvents:
    """What a ledger has of one method. Make it with :meth:`read`.

    Args:
        method: its name.
        tables: the events of each stage that it has, in their order.
        provenance: of each stage that it has, how its events were obtained.
        rates: that its events have.
    """

    method: str
    tables: Mapping[str, pa.Table]
    provenance: Mapping[str, set[str]]
    rates: set[float | None]

    @classmethod
    def read(cls, method: str, events: Dataset) -> MethodEvents:
        """Go through a ledger once, and keep of each event what its stage is about."""
        pieces: dict[str, list[pa.RecordBatch]] = {}
        provenance: dict[str, set[str]] = {}
        rates: set[float | None] = set()
        columns = dict.fromkeys(name for names in (*_MORE.values(), _SAMPLE, _DEVICE) for name in names)
        for batch in events.to_batches([*columns, "stage", "rate"], filter=pc.field("method") == method):
            rates.update(batch["rate"].unique().to_pylist())
            for stage in batch["stage"].unique().to_pylist():
                mine = pc.equal(batch["stage"], stage)
                words = batch["provenance"].filter(mine).unique().to_pylist()
                provenance.setdefault(stage, set()).update(words)
                pieces.setdefault(stage, []).append(batch.select(_columns(stage)).filter(mine))
        tables = {stage: pa.Table.from_batches(found) for stage, found in pieces.items()}
        return cls(method, tables, provenance, rates)

    def stage(self, stage: str) -> pa.Table:
        """The events of a stage, none where there are none.

        Returns:
            of the stages of a sample ``sample``, ``duration_s`` and ``joules``; of ``send`` its sizes and
            ``provenance`` besides, of ``total`` what says how the sample ended, with ``client``. Of all other
            stages ``client``, ``joules``, ``wire_bytes`` and ``provenance``.
        """
        found = self.tables.get(stage)
        return (
            pa.schema([SCHEMA.field(name) for name in _columns(stage)]).empty_table()
            if found is None
            else found
        )

    def of_samples(self, stage: str, samples: NDArray[np.int64]) -> pa.Table:
        """The same, of these samples only."""
        found = self.stage(stage)
        return found.filter(pa.array(np.isin(_numbers(found), samples)))

    def ended(self, *outcomes: str) -> NDArray[np.int64]:
        """Numbers of the samples that ended so."""
        totals = self.stage("total")
        return _numbers(totals.filter(pc.is_in(totals["outcome"], pa.array(outcomes))))

    @property
    def devices(self) -> set[str]:
        """Names of the devices that had a sample."""
        return set(self.stage("total")["client"].unique().to_pylist())

    @property
    def devices_empty(self) -> int:
        """Devices whose batteries ran empty."""
        return len(self.stage(BATTERY_EMPTY)["client"].unique())


def _columns(stage: str) -> list[str]:
    return [*_SAMPLE, *_MORE.get(stage, ())] if stage in STAGES else list(_DEVICE)


def _numbers(events: pa.Table) -> NDArray[np.int64]:
    """Of the samples; -1 of what is no sample's."""
    return np.asarray(events["sample"].fill_null(-1).to_numpy(), np.int64)


def known(events: pa.Table, column: str) -> Floats | None:
    """The values of a column, or None where there is none or one of them is unknown."""
    values = events[column]
    if not len(values) or values.null_count:
        return None
    return np.asarray(values.to_numpy(), dtype=np.float64)


def weakest(found: Collection[str]) -> Provenance:
    """How what derives from all of them was obtained."""
    ranked: tuple[Provenance, ...] = ("unavailable", "modelled", "measured")
    return next((one for one in ranked if one in found), "unavailable")
