"""From two run folders to the figures of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.meter import STAGES, Provenance
from fedsim.compare.differences import grouped, kinds, one_sided, scenario_differences
from fedsim.compare.figures import (
    Answers,
    Carried,
    Comparison,
    Joules,
    MethodComparison,
    Size,
    Spread,
    Timing,
)
from fedsim.compare.folder import ComparisonError, RunFolder
from fedsim.compare.intervals import mean_and_percentile_intervals
from fedsim.compare.ledger import OUTCOMES, Floats, MethodLedger, weakest

__all__ = ["compare"]

#: Share of the measured mean total below which an error of a stage is slight.
_SLIGHT = 0.01
#: Levels that are compared sample by sample: column of the ledger, bytes of its unit, what counts as equal.
_LEVELS = {
    "ideal": ("ideal_bits", 1 / 8, 1 / 8),
    "payload": ("payload_bytes", 1.0, 0.0),
    "frame": ("frame_bytes", 1.0, 0.0),
}


def compare(simulated: Path, measured: Path) -> Comparison:
    """Hold the run that was simulated against the one that was measured.

    Methods are compared where both runs have them. Latencies are those of all samples that ended well, bytes
    and predictions those of the samples that both runs have, by their numbers. What the runs were not asked
    alike is noted, and no reason to refuse.

    Raises:
        ComparisonError: a folder is none of a run, no method is in both, or none with a latency in both.
        LedgerError, SummaryError: a file is damaged, or of another version.
    """
    runs = RunFolder.read(simulated), RunFolder.read(measured)
    shared = [method for method in runs[0].methods if method in runs[1].methods]
    if not shared:
        raise ComparisonError(
            f"no method is in both runs: {simulated} has {', '.join(runs[0].methods)}, "
            f"{measured} has {', '.join(runs[1].methods)}"
        )
    figures, about = [], dict[str, list[str]]()
    for method in shared:
        pair = runs[0].ledger(method), runs[1].ledger(method)
        one = _method(method, *pair)
        figures.append(one)
        for note in _remarks(one, *pair):
            about.setdefault(note, []).append(method)
    if not any(one.timings for one in figures):
        names = ", ".join(shared)
        raise ComparisonError(f"no latency is in both runs: of {names} no sample ended well in one of them")
    notes = [
        *kinds(*(weakest({run.stages[method]["total"] for method in shared}) for run in runs)),
        *one_sided(*runs),
        *scenario_differences(*runs),
        *grouped(about, len(shared)),
    ]
    return Comparison(simulated, measured, tuple(figures), tuple(notes))


def _method(method: str, simulated: MethodLedger, measured: MethodLedger) -> MethodComparison:
    sizes = {level: _size(level, simulated, measured) for level in _LEVELS}
    pairs = [
        Carried("wire", simulated.sent_mean("wire_bytes"), measured.sent_mean("wire_bytes")),
        Carried("reply", simulated.sent_mean("reply_wire_bytes"), measured.sent_mean("reply_wire_bytes")),
        Carried("stream", simulated.stream_mean(), measured.stream_mean()),
    ]
    return MethodComparison(
        method=method,
        outcomes=(_outcomes(simulated), _outcomes(measured)),
        timings={one.stage: one for one in _timings(simulated, measured)},
        sizes={level: size for level, size in sizes.items() if size is not None},
        carried={one.level: one for one in pairs if (one.simulated, one.measured) != (None, None)},
        joules={one.stage: one for one in _joules(simulated, measured)},
        answers=_answers(simulated, measured),
        totals_ms=(np.sort(simulated.durations_ms("total")), np.sort(measured.durations_ms("total"))),
    )


def _outcomes(ledger: MethodLedger) -> dict[str, int]:
    return {outcome: len(ledger.ended(outcome)) for outcome in OUTCOMES}


def _timings(simulated: MethodLedger, measured: MethodLedger) -> Iterator[Timing]:
    """The stages that both have, in their order, then the response."""
    total = measured.durations_ms("total")
    for stage in STAGES:
        pair = simulated.durations_ms(stage), measured.durations_ms(stage)
        provenance = simulated.provenance(stage), measured.provenance(stage)
        yield from _timing(stage, *pair, provenance, None if stage == "total" else total)
    provenance = simulated.provenance("total"), measured.provenance("total")
    yield from _timing("response", simulated.responses_ms(), measured.responses_ms(), provenance, None)


def _timing(
    stage: str,
    simulated: Floats,
    measured: Floats,
    provenance: tuple[Provenance, Provenance],
    total: Floats | None,
) -> Iterator[Timing]:
    """The stage, if it happened in both; ``total`` are the durations that it is a part of."""
    if not len(simulated) or not len(measured):
        return
    predicted, found = _spread(simulated), _spread(measured)
    intervals = mean_and_percentile_intervals(measured, 95)
    off = max(abs(predicted.mean - found.mean), abs(predicted.p95 - found.p95))
    yield Timing(
        stage=stage,
        simulated=predicted,
        measured=found,
        intervals={} if intervals is None else {"mean": intervals[0], "p95": intervals[1]},
        provenance=provenance,
        slight=total is not None and off < _SLIGHT * float(total.mean()),
    )


def _spread(values: Floats) -> Spread:
    p50, p95 = np.percentile(values, (50, 95))
    return Spread(float(values.mean()), float(p50), float(p95))


def _size(level: str, simulated: MethodLedger, measured: MethodLedger) -> Size | None:
    """Sample by sample; None where no sample is known in both."""
    column, scale, margin = _LEVELS[level]
    (mine, ours), (theirs, others) = simulated.sent(column), measured.sent(column)
    _, left, right = np.intersect1d(mine, theirs, return_indices=True)
    if not len(left):
        return None
    predicted, found = ours[left] * scale, others[right] * scale
    off = np.abs(predicted - found)
    shares = np.divide(off, found, out=np.where(off > 0, np.inf, 0.0), where=found > 0)
    return Size(
        level=level,
        samples=len(off),
        equal=int(np.count_nonzero((off < margin) | (off == 0))),
        largest=float(off.max()),
        largest_error=float(shares.max()),
        simulated=float(predicted.mean()),
        measured=float(found.mean()),
    )


def _joules(simulated: MethodLedger, measured: MethodLedger) -> Iterator[Joules]:
    others = [stage for stage in simulated.stages if stage not in STAGES]
    for stage in (*STAGES, *others):
        mine, theirs = simulated.joules(stage), measured.joules(stage)
        if mine is not None and theirs is not None:
            yield Joules(stage, mine, theirs, (simulated.provenance(stage), measured.provenance(stage)))


def _answers(simulated: MethodLedger, measured: MethodLedger) -> Answers:
    (mine, *ours), (theirs, *others) = simulated.answers(), measured.answers()
    common, left, right = np.intersect1d(mine, theirs, return_indices=True)
    (labels, predictions), (true, found) = (one[left] for one in ours), (one[right] for one in others)
    known = ~np.isnan(predictions) & ~np.isnan(found)
    labelled = len(common) > 0 and not (np.isnan(labels) | np.isnan(true)).any()
    return Answers(
        samples=len(common),
        predicted=int(np.count_nonzero(known)),
        alike=int(np.count_nonzero(known & (predictions == found))),
        other_labels=int(np.count_nonzero((labels != true) & ~np.isnan(labels) & ~np.isnan(true))),
        simulated_accuracy=float(np.mean(predictions == labels)) if labelled else None,
        measured_accuracy=float(np.mean(found == true)) if labelled else None,
    )


def _remarks(one: MethodComparison, simulated: MethodLedger, measured: MethodLedger) -> Iterator[str]:
    """What is to be known of the figures of a method."""
    counts = [sum(outcomes.values()) for outcomes in one.outcomes]
    common = one.answers.samples
    if not (counts[0] == counts[1] == common):
        yield (
            f"{counts[0]} samples ended in the simulated run and {counts[1]} in the measured one, "
            f"{common or 'none'} of them in both"
        )
    if one.answers.other_labels:
        other = one.answers.other_labels
        yield f"true classes differ in {other} of {common} samples: these are not the same data"
    for ledger, where in ((simulated, "simulated"), (measured, "measured")):
        if not len(ledger.well()):
            yield f"no sample ended well in the {where} run, so there is no latency"
    kinds_of = (simulated.provenance("total"), measured.provenance("total"))
    if {"wire", "reply"} & set(one.carried) and kinds_of == ("modelled", "measured"):
        yield (
            "wire bytes of the simulated run are those of its link, headers of packets included; of the "
            "measured run they are the kernel's, acknowledgements included"
        )
    waited = [stage for stage, timing in one.timings.items() if timing.provenance == ("modelled", "modelled")]
    if waited and measured.provenance("total") == "measured":
        yield f"{', '.join(waited)} lasted what a model says in the measured run too, and are no test of it"
