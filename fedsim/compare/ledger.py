"""What a ledger says of one method, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.dataset import Dataset

from edge.meter import Provenance
from fedsim.measure.ledger import LedgerError

__all__ = ["OUTCOMES", "Floats", "MethodLedger", "Numbers", "read", "weakest"]

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

OUTCOMES = ("answered", "local", "failed")
_COLUMNS = ("sample", "start_s", "duration_s", "joules")
#: Columns that only the events of these stages have.
_MORE = {
    "send": ("ideal_bits", "payload_bytes", "frame_bytes", "wire_bytes", "reply_wire_bytes"),
    "stream": ("wire_bytes",),
    "total": ("outcome", "label", "prediction", "due_s"),
}


def read(events: Dataset, columns: Sequence[str], **values: str) -> pa.Table:
    """These columns of the rows that have these values.

    Raises:
        LedgerError: the file is damaged.
    """
    condition = None
    for name, value in values.items():
        one = pc.field(name) == value
        condition = one if condition is None else condition & one
    try:
        return events.to_table(list(columns), condition)
    except (OSError, pa.ArrowException) as error:
        raise LedgerError(f"{', '.join(events.files)}: cannot be read as a ledger: {error}") from error


def weakest(found: set[Provenance]) -> Provenance:
    """How what derives from all of them was obtained."""
    ranked: tuple[Provenance, ...] = ("unavailable", "modelled", "measured")
    return next((one for one in ranked if one in found), "unavailable")


@dataclass(frozen=True, eq=False)
class MethodLedger:
    """The events of one method, read stage by stage and kept.

    Args:
        method: its name.
        events: of the run.
        stages: those that the method has, and how their events were obtained.
    """

    method: str
    events: Dataset
    stages: Mapping[str, Provenance]
    _kept: dict[str, pa.Table] = field(default_factory=dict)

    def ended(self, outcome: str) -> Numbers:
        """Numbers of the samples that ended so: one of :data:`OUTCOMES`."""
        totals = self._stage("total")
        return np.asarray(totals.filter(pc.field("outcome") == outcome)["sample"].to_numpy(), dtype=np.int64)

    def well(self) -> Numbers:
        """The samples that were answered, by the server or on the device."""
        return np.concatenate([self.ended("answered"), self.ended("local")])

    def provenance(self, stage: str) -> Provenance:
        """How the events of a stage were obtained: the weakest of them."""
        return self.stages.get(stage, "unavailable")

    def durations_ms(self, stage: str) -> Floats:
        """Of the samples that ended well, in the order in which the stage began; empty without it."""
        mine = self._of_samples(stage, self.well())
        return _in_order(mine, 1e3 * mine["duration_s"].to_numpy())

    def responses_ms(self) -> Floats:
        """From due to end, of the samples that ended well; empty where one of them was never due."""
        mine = self._of_samples("total", self.well())
        if mine["due_s"].null_count:
            return np.empty(0)
        ends = mine["start_s"].to_numpy() + mine["duration_s"].to_numpy()
        return _in_order(mine, 1e3 * (ends - mine["due_s"].to_numpy()))

    def sent(self, column: str) -> tuple[Numbers, Floats]:
        """The samples that the server answered and whose bytes are known: numbers, and values of a column."""
        mine = self._of_samples("send", self.ended("answered"))
        mine = mine.filter(mine[column].is_valid())
        return mine["sample"].to_numpy(), mine[column].to_numpy().astype(np.float64)

    def sent_mean(self, column: str) -> float | None:
        """Of the samples that the server answered; None where one of them is not known, or there is none."""
        _, values = self.sent(column)
        return float(values.mean()) if 0 < len(values) == len(self.ended("answered")) else None

    def stream_mean(self) -> float | None:
        """Bytes of all streams over the samples that the server answered; None where a stream has none."""
        streams, answered = self._stage("stream")["wire_bytes"], len(self.ended("answered"))
        if not len(streams) or streams.null_count or not answered:
            return None
        return float(streams.to_numpy().sum()) / answered

    def joules(self, stage: str) -> float | None:
        """Energy of a stage for each sample that ended well; None where one of its events has none.

        What others cost that failed, and what belongs to no sample, such as a radio's tail, is in it.
        """
        used, well = self._stage(stage)["joules"], len(self.well())
        if not len(used) or used.null_count or not well:
            return None
        return float(used.to_numpy().sum()) / well

    def answers(self) -> tuple[Numbers, Floats, Floats]:
        """Numbers, labels and predictions of all samples; NaN where there is none, or it failed."""
        totals = self._stage("total")
        numbers, predictions = totals["sample"].to_numpy(), _known(totals["prediction"])
        return numbers, _known(totals["label"]), np.where(np.isin(numbers, self.well()), predictions, np.nan)

    def _stage(self, stage: str) -> pa.Table:
        if stage not in self._kept:
            columns = (*_COLUMNS, *_MORE.get(stage, ()))
            self._kept[stage] = read(self.events, columns, method=self.method, stage=stage)
        return self._kept[stage]

    def _of_samples(self, stage: str, numbers: Numbers) -> pa.Table:
        events = self._stage(stage)
        events = events.filter(events["sample"].is_valid())
        return events.filter(pa.array(np.isin(events["sample"].to_numpy(), numbers)))


def _in_order(events: pa.Table, values: Floats) -> Floats:
    return np.asarray(values[np.argsort(events["start_s"].to_numpy(), kind="stable")], dtype=np.float64)


def _known(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
