"""What happened in virtual time as lines of the ledger, the same as those of a run in wall time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedsim.errors import SimulationError
from fedsim.measure.ledger import SCHEMA
from fedsim.simulator.energy import DeviceJoules
from fedsim.simulator.fleet import Outcome

__all__ = ["Samples", "records"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """What a simulation does not know of the samples that it carried. Arrays [samples], as in the outcome.

    Args:
        numbers: of each sample in the data, unique in a run.
        head_s: of ``compute_s``, what the network takes; the coder takes the rest.
        decode_s: of the worker's time, what decoding takes; the tail takes the rest.
        labels: true classes.
        predictions: what the server answers.
        sent: ``ideal_bits``, ``payload_bytes``, ``frame_bytes``, ``wire_bytes``, ``reply_wire_bytes``: those
            that are known.
    """

    numbers: NDArray[np.int64]
    head_s: Floats
    decode_s: Floats
    labels: NDArray[np.int64] | None = None
    predictions: NDArray[np.int64] | None = None
    sent: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def records(
    outcome: Outcome,
    samples: Samples,
    *,
    run: str,
    method: str,
    clients: Sequence[str],
    rate: float | None = None,
    joules: Sequence[DeviceJoules] | None = None,
    deadline_s: float = np.inf,
) -> pa.Table:
    """The samples that were begun, as a table of :data:`fedsim.measure.ledger.SCHEMA`.

    Stages are cut as a device cuts them: ``send`` is the way there and back, the radio's waking included.
    A sample without an answer within ``deadline_s`` has failed; what it cost stays. Times count from the
    beginning of the simulation, and everything is ``modelled``. The joules of ``total`` are those of the
    other stages together.

    Args:
        outcome: of the simulation; rounds in it are left out.
        samples: what it does not know of them.
        run: name of the run.
        method: the row of the results.
        clients: names of the devices.
        rate: rate parameter of the method, where it has one.
        joules: of each device, where they are asked for.
        deadline_s: of every sample.

    Raises:
        SimulationError: arrays or names that are not as many as there are samples and devices.
    """
    jobs = outcome.jobs[outcome.of_samples]
    _check(len(jobs), samples, clients, len(outcome.devices))
    begun = ~np.isnan(jobs["ended"])
    took = jobs["ended"] - jobs["started"]
    answered = took <= deadline_s
    served, worked = jobs["done"] - jobs["served"], jobs["compute_s"]
    there, back = jobs["arrived"] - jobs["computed"], jobs["ended"] - jobs["done"]
    used = _joules(outcome, joules, worked, samples.head_s)
    at_server = jobs["served"]
    stages: dict[str, tuple[Floats, Floats, Floats | None]] = {
        "head": (jobs["started"], samples.head_s, used["head"]),
        "encode": (jobs["started"] + samples.head_s, worked - samples.head_s, used["encode"]),
        "send": (jobs["computed"], there + back, used["send"]),
        "queue": (jobs["arrived"], jobs["served"] - jobs["arrived"], None),
        "decode": (at_server, samples.decode_s, None),
        "tail": (at_server + samples.decode_s, served - samples.decode_s, None),
        "total": (jobs["started"], took, used["total"]),
    }
    names = np.asarray(clients, dtype=object)[jobs["device"]]
    tables = []
    for stage, (start, duration, energy) in stages.items():
        kept = begun & answered if stage in ("queue", "decode", "tail") else begun
        columns: dict[str, Any] = {
            "client": names,
            "start_s": start,
            "duration_s": np.maximum(duration, 0.0),  # rounding may go below
            "sample": samples.numbers,
        }
        if energy is not None:
            columns["joules"] = energy
        if stage == "send":
            columns |= samples.sent
        if stage == "total":
            columns["outcome"] = np.where(answered, "answered", "failed")
            columns["due_s"] = jobs["due"]
            if samples.labels is not None:
                columns["label"] = samples.labels
            if samples.predictions is not None:
                told = samples.predictions.astype(object)
                told[~answered] = None
                columns["prediction"] = told
            late = f"no answer within {deadline_s:g} s"
            columns["detail"] = np.array([late, None], dtype=object)[answered.astype(np.int64)]
        constants = {"run": run, "method": method, "stage": stage, "provenance": "modelled", "rate": rate}
        tables.append(_table(columns, constants, np.flatnonzero(kept)))
    return pa.concat_tables(tables)


def _joules(
    outcome: Outcome, joules: Sequence[DeviceJoules] | None, worked: Floats, head_s: Floats
) -> dict[str, Floats | None]:
    """By stage; [samples], or None where nobody asks."""
    if joules is None:
        return dict.fromkeys(("head", "encode", "send", "total"))
    mine = outcome.of_samples
    computed, sent = np.zeros(len(mine)), np.zeros(len(mine))
    for device, used in enumerate(joules):
        places = np.flatnonzero(outcome.device == device)
        computed[places], sent[places] = used.compute_j, used.up_j + used.down_j
    computed, sent = computed[mine], sent[mine]
    head = computed * np.divide(head_s, worked, out=np.ones_like(worked), where=worked > 0)
    return {"head": head, "encode": computed - head, "send": sent, "total": computed + sent}


def _table(columns: Mapping[str, Any], constants: Mapping[str, Any], rows: NDArray[np.int64]) -> pa.Table:
    count = len(rows)
    arrays = []
    for one in SCHEMA:
        if one.name in columns:
            arrays.append(pa.array(columns[one.name][rows], one.type))
        elif constants.get(one.name) is not None:
            arrays.append(pa.repeat(pa.scalar(constants[one.name], one.type), count))
        else:
            arrays.append(pa.nulls(count, one.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _check(count: int, samples: Samples, clients: Sequence[str], devices: int) -> None:
    arrays = {
        "numbers": samples.numbers,
        "head_s": samples.head_s,
        "decode_s": samples.decode_s,
        "labels": samples.labels,
        "predictions": samples.predictions,
        **samples.sent,
    }
    for name, values in arrays.items():
        if values is not None and len(values) != count:
            raise SimulationError(f"{name} are {len(values)}, and there are {count} samples")
    if len(clients) != devices:
        raise SimulationError(f"names are {len(clients)}, and there are {devices} devices")
