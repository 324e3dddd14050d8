"""Where the energy of a fleet's devices went, for each sample that was answered."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge.meter import STAGES
from fedsim.measure.rows import MethodEvents, known, weakest
from fedsim.measure.schema import Energy, Percentiles
from fedsim.measure.statistics import percentile

__all__ = ["energy"]

#: Causes that the samples have, by the stages of their events ..
_WORK = {
    "head_j": "head",
    "encode_j": "encode",
    "send_j": "send",
    "promotion_j": "promotion",
    "tail_j": "radio-tail",
}
#: .. and those that are there without any.
_REST = {"idle_j": "radio-idle", "base_j": "base"}


def energy(events: MethodEvents, ended_well: NDArray[np.int64], correct: int | None) -> Energy | None:
    """The energy of a method, or None where its ledger has no joules, or no sample ended well.

    What failed samples cost is spread over those that ended well, as is what devices spent on none.

    Args:
        events: of the method.
        ended_well: numbers of the samples that were answered, by the server or on the device.
        correct: how many samples were told rightly; None without labels.
    """
    samples = len(ended_well)
    stages = {key: stage for key, stage in (_WORK | _REST).items() if len(events.stage(stage))}
    own = events.of_samples("total", ended_well)
    tables = [*(events.stage(stage) for stage in stages.values()), own]
    if not samples or all(table["joules"].null_count == len(table) for table in tables):
        return None
    causes = {key: _sum(events, stage) for key, stage in stages.items()}
    work = _together([total for key, total in causes.items() if key in _WORK])
    everything = _together(list(causes.values()))
    each = known(own, "joules")
    used = [stages[key] for key, total in causes.items() if total is not None]
    used += [] if each is None else ["total"]
    return Energy(
        **{key: _share(total, samples) for key, total in causes.items()},
        incremental_j=_share(work, samples),
        total_j=_share(everything, samples),
        per_correct_j=_share(work, correct),
        sample_j=None if each is None else Percentiles(p50=percentile(each, 50), p95=percentile(each, 95)),
        provenance=weakest({word for stage in used for word in events.provenance[stage]}),
    )


def _sum(events: MethodEvents, stage: str) -> float | None:
    """All joules of a cause, or None where those of an event are not known, or those of a device."""
    found = events.stage(stage)
    joules = known(found, "joules")
    if joules is None:
        return None
    if stage not in STAGES and not events.devices.issubset(found["client"].unique().to_pylist()):
        return None
    return float(joules.sum())


def _together(parts: list[float | None]) -> float | None:
    """Their sum; None without any, or where one is unknown."""
    numbers = [part for part in parts if part is not None]
    return math.fsum(numbers) if parts and len(numbers) == len(parts) else None


def _share(total: float | None, samples: int | None) -> float | None:
    return total / samples if total is not None and samples else None
