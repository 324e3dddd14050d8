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

__all__ = ["Samples", "device_records", "records"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """What a simulation does not know of the samples that it carried. Arrays [samples], as in the outcome.

    Args:
        numbers: of each sample in the data, unique in a run.
        head_s: of ``compute_s``, what the network takes; the coder takes the rest.
        decode_share: of the worker's time, what decoding takes; the tail takes the rest.
        labels: true classes; -1 of a sample without one.
        predictions: what the server answers, or the device where the network runs there; -1 for nothing.
        sent: ``ideal_bits``, ``payload_bytes``, ``frame_bytes``, ``wire_bytes``, ``reply_wire_bytes``: those
            that are known.
        failed: why nothing was answered to a sample, whenever it came; empty where something was.
    """

    numbers: NDArray[np.int64]
    head_s: Floats
    decode_share: Floats
    labels: NDArray[np.int64] | None = None
    predictions: NDArray[np.int64] | None = None
    sent: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    failed: NDArray[np.object_] | None = None


def records(
    outcome: Outcome,
    samples: Samples,
    *,
    run: str,
    method: str,
    clients: Sequence[str],
    rate: float | None = None,
    joules: Sequence[DeviceJoules | None] | None = None,
    local: bool = False,
) -> pa.Table:
    """The samples that were begun, as a table of :data:`fedsim.measure.ledger.SCHEMA`.

    Stages are cut as a device cuts them: ``send`` is the way there and back, the radio's waking included; of
    a sample whose answer did not come in time, until then. Such a sample has failed; what it cost stays.
    Times count from the beginning of the simulation, and everything is ``modelled``. The joules of ``send``
    are those of its bits alone: waking and tail are no single sample's (:func:`device_records`). The joules
    of ``total`` are those of the other stages together.

    Args:
        outcome: of the simulation; rounds in it are left out.
        samples: what it does not know of them.
        run: name of the run.
        method: the row of the results.
        clients: names of the devices.
        rate: rate parameter of the method, where it has one.
        joules: of each device, where they are asked for; None for one of which they are not known.
        local: whether the whole network ran on the device, so that nothing was sent.

    Raises:
        SimulationError: arrays or names that are not as many as there are samples and devices.
    """
    jobs = outcome.jobs[outcome.of_samples]
    _check(len(jobs), samples, clients, len(outcome.devices))
    begun = ~np.isnan(jobs["ended"])
    took = jobs["ended"] - jobs["started"]
    failed = np.full(len(jobs), "", object) if samples.failed is None else samples.failed
    late, sent = jobs["missed"] > 0, jobs["silent"] == 0
    answered = ~late & (failed == "")
    served, worked = jobs["done"] - jobs["served"], jobs["compute_s"]
    there, back = jobs["arrived"] - jobs["computed"], jobs["ended"] - jobs["done"]
    sending = np.where(late, jobs["ended"] - jobs["computed"], there + back)
    used = _joules(outcome, joules, worked, samples.head_s)
    at_server, decode_s = jobs["served"], samples.decode_share * served
    stages: dict[str, tuple[Floats, Floats, Floats | None]] = {
        "head": (jobs["started"], samples.head_s, used["head"]),
        "encode": (jobs["started"] + samples.head_s, worked - samples.head_s, used["encode"]),
        "send": (jobs["computed"], sending, used["send"]),
        "queue": (jobs["arrived"], jobs["served"] - jobs["arrived"], None),
        "decode": (at_server, decode_s, None),
        "tail": (at_server + decode_s, served - decode_s, None),
        "total": (jobs["started"], took, used["total"]),
    }
    if local:
        stages = {stage: stages[stage] for stage in ("head", "total")}
    names = np.asarray(clients, dtype=object)[jobs["device"]]
    tables = []
    for stage, (start, duration, energy) in stages.items():
        kept = begun
        if stage in ("queue", "decode", "tail"):
            kept = begun & answered
        elif stage == "send":
            kept = begun & sent
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
            columns["outcome"] = np.where(answered, "local" if local else "answered", "failed")
            columns["due_s"] = jobs["due"]
            for name, values in (("label", samples.labels), ("prediction", samples.predictions)):
                if values is not None:
                    unknown = (values < 0) | (~answered & (name == "prediction"))
                    columns[name] = _Known(values, ~unknown)
            columns["detail"] = _details(failed, late, outcome.deadline_s[jobs["device"]])
        constants = {"run": run, "method": method, "stage": stage, "provenance": "modelled", "rate": rate}
        tables.append(_table(columns, constants, np.flatnonzero(kept)))
    return pa.concat_tables(tables)


def device_records(
    outcome: Outcome,
    joules: Sequence[DeviceJoules | None],
    *,
    run: str,
    method: str,
    clients: Sequence[str],
    rate: float | None = None,
) -> pa.Table:
    """What devices spent that is no single sample's, as a table of :data:`fedsim.measure.ledger.SCHEMA`.

    For each device whose energy is asked for, from the beginning of the run to the end of its time: ``base``,
    at rest; ``promotion``, its radio's waking; ``radio-tail``; ``radio-idle``, its radio asleep. Promotion
    and tail are above the sleep. The joules of what is not known of it are null. Besides ``battery-empty``,
    when that was.

    Args:
        outcome: of the simulation.
        joules: of each device; None where they are not known.
        run: name of the run.
        method: the row of the results.
        clients: names of the devices.
        rate: rate parameter of the method, where it has one.
    """
    lines: dict[str, list[tuple[str, float, float, float | None]]] = {}
    for name, used, empty in zip(clients, joules, outcome.empty_s, strict=True):
        if used is not None:
            spent = {
                "base": used.base_j if used.powered else np.nan,
                "promotion": used.promotion_j if used.heard else np.nan,
                "radio-tail": used.tail_j if used.heard else np.nan,
                "radio-idle": used.idle_j if used.heard else np.nan,
            }
            for stage, value in spent.items():
                lines.setdefault(stage, []).append((name, 0.0, used.radio.until, np.maximum(value, 0.0)))
        if not np.isnan(empty):
            lines.setdefault("battery-empty", []).append((name, float(empty), 0.0, None))
    tables = [SCHEMA.empty_table()]
    for stage, found in lines.items():
        names, starts, durations, spent_j = zip(*found, strict=True)
        columns = {
            "client": np.asarray(names, object),
            "start_s": np.asarray(starts),
            "duration_s": np.asarray(durations),
        }
        if spent_j[0] is not None:
            columns["joules"] = np.asarray(spent_j)
        constants = {"run": run, "method": method, "stage": stage, "provenance": "modelled", "rate": rate}
        tables.append(_table(columns, constants, np.arange(len(found))))
    return pa.concat_tables(tables)


def _details(failed: NDArray[np.object_], late: NDArray[np.bool_], deadline: Floats) -> NDArray[np.object_]:
    """Why samples failed; None of those that did not."""
    found = np.full(len(failed), None, object)
    for limit in np.unique(deadline[late]):
        found[late & (deadline == limit)] = f"no answer within {limit:g} s"
    told = failed != ""
    found[told] = failed[told]
    return found


def _joules(
    outcome: Outcome, joules: Sequence[DeviceJoules | None] | None, worked: Floats, head_s: Floats
) -> dict[str, Floats | None]:
    """By stage; [samples] with NaN where they are not known, or None where nobody asks."""
    if joules is None or all(used is None for used in joules):
        return dict.fromkeys(("head", "encode", "send", "total"))
    mine = outcome.of_samples
    computed, sent = np.full(len(mine), np.nan), np.full(len(mine), np.nan)
    for device, used in enumerate(joules):
        if used is not None:
            places = outcome.places_of(device)
            if used.powered:
                computed[places] = used.compute_j
            if used.heard:
                sent[places] = used.bits_j
    computed, sent = computed[mine], sent[mine]
    head = computed * np.divide(head_s, worked, out=np.ones_like(worked), where=worked > 0)
    return {"head": head, "encode": computed - head, "send": sent, "total": computed + sent}


def _table(columns: Mapping[str, Any], constants: Mapping[str, Any], rows: NDArray[np.int64]) -> pa.Table:
    count = len(rows)
    arrays = []
    for one in SCHEMA:
        if one.name in columns:
            arrays.append(_array(columns[one.name][rows], one.type))
        elif constants.get(one.name) is not None:
            arrays.append(pa.repeat(pa.scalar(constants[one.name], one.type), count))
        else:
            arrays.append(pa.nulls(count, one.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


@dataclass(frozen=True, eq=False)
class _Known:
    """Values, of which some are not known."""

    values: NDArray[Any]
    known: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int64]) -> _Known:
        return _Known(self.values[rows], self.known[rows])


def _array(values: NDArray[Any] | _Known, type_: pa.DataType) -> pa.Array:
    """A column; what is not known or no number is null."""
    if isinstance(values, _Known):
        return pa.array(values.values, type_, mask=~values.known)
    return pa.array(values, type_, from_pandas=True)  # which takes NaN for null


def _check(count: int, samples: Samples, clients: Sequence[str], devices: int) -> None:
    arrays = {
        "numbers": samples.numbers,
        "head_s": samples.head_s,
        "decode_share": samples.decode_share,
        "failed": samples.failed,
        "labels": samples.labels,
        "predictions": samples.predictions,
        **samples.sent,
    }
    for name, values in arrays.items():
        if values is not None and len(values) != count:
            raise SimulationError(f"{name} are {len(values)}, and there are {count} samples")
    if len(clients) != devices:
        raise SimulationError(f"names are {len(clients)}, and there are {devices} devices")
