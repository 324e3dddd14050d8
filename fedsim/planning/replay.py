"""What a run made of each sample of its data, read from its ledger to be used in virtual time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.dataset import Dataset

from fedsim.measure.ledger import open_parquet
from fedsim.planning.candidates import Trained
from fedsim.planning.errors import PlanningError
from fedsim.simulator.material import Material

__all__ = ["LEDGER", "material_of"]

LEDGER = "ledger.parquet"


def material_of(trained: Trained) -> Material:
    """The samples that a run had answered by the model itself, once each, numbered from 0 on.

    Those that failed, or that another network answered on the device, are left out: why they did has to do
    with the fleet of that run.

    Raises:
        PlanningError: the run had a sample more than once, or none was answered.
        LedgerError: its ledger cannot be read.
    """
    row, path = trained.row, trained.run / LEDGER
    events = open_parquet(path).filter((pc.field("method") == row.method) & pc.field("sample").is_valid())
    totals = events.to_table(["sample", "outcome", "label", "prediction"], pc.field("stage") == "total")
    told = "local" if row.bottleneck is None else "answered"
    totals = totals.filter(pc.equal(totals["outcome"], told)).sort_by("sample")
    numbers = _numbers(totals)
    if not len(numbers):
        raise PlanningError(
            f"{path}: {row.method}: no sample was answered by it, so its payloads are not known"
        )
    if (np.diff(numbers) == 0).any():
        raise PlanningError(f"{path}: {row.method}: a sample ended more than once")
    sent = _sent(events, totals, numbers)
    return Material(
        rate=row.rate,
        labels=_whole(totals, "label"),
        predictions=_whole(totals, "prediction"),
        ideal_bits=sent["ideal_bits"],
        payload_bytes=sent["payload_bytes"].astype(np.int64),
        frame_bytes=sent["frame_bytes"].astype(np.int64),
        failed=np.full(len(numbers), "", object),
    )


def _sent(events: Dataset, totals: pa.Table, numbers: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """What each sample sent, [samples]; of one that sent nothing 0, and of its ideal NaN."""
    columns = {"ideal_bits": np.nan, "payload_bytes": 0.0, "frame_bytes": 0.0}
    found = {name: np.full(len(numbers), nothing) for name, nothing in columns.items()}
    sends = events.to_table(["sample", *columns], pc.field("stage") == "send")
    sends = sends.filter(pc.is_in(sends["sample"], totals["sample"]))
    places = np.searchsorted(numbers, _numbers(sends))
    for name, nothing in columns.items():
        found[name][places] = pc.fill_null(pc.cast(sends[name], pa.float64()), nothing).to_numpy()
    return found


def _numbers(table: pa.Table) -> NDArray[np.int64]:
    return np.asarray(table["sample"].to_numpy(), np.int64)


def _whole(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column of whole numbers; -1 where there is none."""
    return np.asarray(pc.fill_null(table[name], -1).to_numpy(), np.int64)
