"""A finished run as a comparison reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import Dataset

from edge.meter import Provenance
from fedsim.compare.ledger import MethodLedger, weakest
from fedsim.errors import FedsimError
from fedsim.measure.ledger import LedgerError, open_parquet
from fedsim.measure.machine import MACHINE_STAGES
from fedsim.measure.schema import Summary

__all__ = ["ComparisonError", "RunFolder"]

_FILES = ("ledger.parquet", "summary.json")


class ComparisonError(FedsimError, ValueError):
    """Two runs that cannot be compared. The message names the folders, and what they have."""


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run that is finished.

    Args:
        path: its folder.
        summary: what it says of how it came about.
        events: its ledger, without the rounds of a federation and the meters of the machine.
        stages: of the methods by which samples were told: how the events of each stage were obtained.
    """

    path: Path
    summary: Summary
    events: Dataset
    stages: Mapping[str, Mapping[str, Provenance]]

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """The run in a folder.

        Raises:
            ComparisonError: the folder is none of a run, or no sample ended in it.
            LedgerError: its ledger is damaged, or of another version.
            SummaryError: its summary is.
        """
        if absent := [name for name in _FILES if not (path / name).is_file()]:
            found = f"no {' and no '.join(absent)} in it" if path.is_dir() else "no such folder"
            raise ComparisonError(
                f"{path}: is no run folder: {found}; expected what fedsim run leaves, "
                "or of a sweep one point, points/LABEL/seed-S"
            )
        summary, ledger = Summary.read(path / "summary.json"), path / "ledger.parquet"
        events = open_parquet(ledger).filter(
            pc.field("round").is_null() & ~pc.field("stage").isin(list(MACHINE_STAGES))
        )
        try:
            stages = _stages(events)
        except (OSError, pa.ArrowException) as error:
            raise LedgerError(f"{ledger}: cannot be read as a ledger: {error}") from error
        if not stages:
            raise ComparisonError(f"{path}: no sample in its ledger, so there is no latency to compare")
        return cls(path, summary, events, stages)

    @property
    def methods(self) -> list[str]:
        """Those by which samples were told, in the order of the ledger."""
        return list(self.stages)

    def ledger(self, method: str) -> MethodLedger:
        """The events of one method."""
        return MethodLedger(method, self.events, self.stages[method])


def _stages(events: Dataset) -> dict[str, dict[str, Provenance]]:
    """By method, of those that have samples that ended."""
    columns = ["method", "stage", "provenance"]
    found: dict[str, dict[str, set[Provenance]]] = {}
    for batch in events.to_batches(columns=columns):
        kinds = pa.Table.from_batches([batch]).group_by(columns, use_threads=False).aggregate([])
        for kind in kinds.to_pylist():
            found.setdefault(kind["method"], {}).setdefault(kind["stage"], set()).add(kind["provenance"])
    return {
        method: {stage: weakest(how) for stage, how in stages.items()}
        for method, stages in found.items()
        if "total" in stages
    }
