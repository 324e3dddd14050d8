"""From the rounds of a federated run and its ledger to the figures."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.meter import Event, Provenance
from fedsim.federated.evaluation import Result
from fedsim.federated.metering import client_name
from fedsim.federated.privacy import PrivacyLoss
from fedsim.federated.rounds import RoundRecord
from fedsim.federated.site import Site
from fedsim.measure.federation.cost import cost_of
from fedsim.measure.federation.schema import (
    Accuracy,
    Federation,
    FederationBytes,
    FederationClient,
    FederationProvenance,
    FederationRound,
    FederationRow,
    Privacy,
    Traffic,
)

if TYPE_CHECKING:  # what prices is loaded where something is to be priced
    from fedsim.federated.pricing.priced import PricedRun

__all__ = ["MethodRun", "accuracies", "summarise_federation"]

#: Stages of the ledger, by the kind of messages that they are of.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "hello": ("hello-down", "hello-up"),
    "masking": ("masking-down", "masking-up"),
    "setup": ("setup",),
    "down": ("down",),
    "up": ("up",),
    "evaluation_down": ("evaluate-down",),
    "evaluation_up": ("evaluate-up",),
}
NOT_COUNTED = "nobody counted the messages"
_SHOWN = 3  # reasons of rejections that a remark repeats


@dataclass(frozen=True)
class MethodRun:
    """What a method's run came to, but for its events.

    Args:
        row: its name in the results.
        name: of the method.
        records: of its rounds, at least one.
        privacy: what it has given away, where the method is private.
        troubles: what went wrong on the way and did not end the run, in words.
        priced: its rounds on the links and devices of the fleet, where that names any.
    """

    row: str
    name: str
    records: Sequence[RoundRecord]
    privacy: PrivacyLoss | None = None
    troubles: Sequence[str] = ()
    priced: PricedRun | None = None


def summarise_federation(
    site: Site,
    runs: Sequence[MethodRun],
    events: Iterable[Event],
    rounds: int,
    remarks: Sequence[str] = (),
) -> Federation:
    """The figures of a federation.

    Args:
        site: of all methods.
        runs: of the methods, in the order of the rows.
        events: of the ledger, those of the federation.
        rounds: of every method.
        remarks: what is to be known of the devices and links of the fleet.
    """
    mine: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        mine[event.method].append(event)
    priced = [e for found in mine.values() for e in found if e.payload_bytes is not None]
    wired = bool(priced) and all(event.wire_bytes is not None for event in priced)
    counted: Provenance = "measured" if priced else "unavailable"
    return Federation(
        rounds=rounds,
        base_samples=len(site.base),
        clients=[_client(site, partition) for partition in range(site.clients)],
        networks=[plan.backbone for plan in site.networks],
        provenance=FederationProvenance(
            ideal="modelled" if priced else "unavailable",
            payload=counted,
            frame=counted,
            wire="measured" if wired else "unavailable",
            detail=None if wired else _why_not(priced),
        ),
        rows=[_row(run, mine[run.row]) for run in runs],
        remarks=list(remarks),
    )


def _why_not(priced: Iterable[Event]) -> str:
    """Why there are no wire bytes of all messages, as the ledger says of one that has none."""
    said = (e.detail for e in priced if e.wire_bytes is None and e.outcome is None and e.detail)
    return next(said, NOT_COUNTED)


def accuracies(results: Mapping[int, Sequence[Result]]) -> list[Accuracy]:
    """What clients found, pooled and averaged, for each kind of result that there is.

    Args:
        results: by partition.
    """
    kinds: dict[tuple[str, str, str], list[Result]] = {}
    for partition in sorted(results):
        for result in results[partition]:
            kinds.setdefault((result.predictor, result.classes, result.test), []).append(result)
    return [_accuracy(found) for found in kinds.values()]


def _accuracy(found: Sequence[Result]) -> Accuracy:
    right, total = sum(r.right for r in found), sum(r.total for r in found)
    each = [r.accuracy for r in found if r.accuracy is not None]
    return Accuracy(
        predictor=found[0].predictor,
        classes=found[0].classes,
        test=found[0].test,
        right=right,
        total=total,
        accuracy=right / total if total else None,
        client_mean=min(1.0, float(np.mean(each))) if each else None,
        client_deviation=float(np.std(each, ddof=1)) if len(each) > 1 else None,
        clients=len(each),
    )


def _row(run: MethodRun, events: Sequence[Event]) -> FederationRow:
    by_round: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_round[event.round or 0].append(event)
    rounds = [
        FederationRound(
            round=record.number,
            cohort=len(record.cohort),
            merged=len(record.merged),
            lost=len(record.lost),
            late=len(record.late),
            rejected=len(record.rejected),
            void=record.void,
            step_s=_work(by_round[record.number]),
            bytes=_traffic(by_round[record.number]) if events else None,
            accuracy=accuracies(record.results),
        )
        for record in run.records
    ]
    said = [*run.troubles, *(() if run.priced is None else run.priced.notes)]
    return FederationRow(
        method=run.row,
        name=run.name,
        rounds=rounds,
        accuracy=rounds[-1].accuracy,
        bytes=_traffic(events) if events else None,
        privacy=None if run.privacy is None else _privacy(run.privacy),
        remarks=[*(f"{run.row}: {one}" for one in said), *_remarks(run.row, run.records)],
        cost=None if run.priced is None else cost_of(run.priced, [one.accuracy for one in rounds]),
    )


def _work(events: Iterable[Event]) -> float | None:
    """Seconds of the clients' training."""
    found = [event.duration_s for event in events if event.stage == "step"]
    return sum(found) if found else None


def _privacy(loss: PrivacyLoss) -> Privacy:
    return Privacy(
        epsilon=loss.epsilon if math.isfinite(loss.epsilon) else None,
        delta=loss.delta,
        level=loss.level,
        releases=loss.releases,
    )


def _traffic(events: Iterable[Event]) -> Traffic:
    stages: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        stages[event.stage].append(event)
    return Traffic(
        **{kind: _bytes([e for one in names for e in stages[one]]) for kind, names in _KINDS.items()}
    )


def _bytes(events: Sequence[Event]) -> FederationBytes:
    known = [event.wire_bytes for event in events if event.wire_bytes is not None]
    return FederationBytes(
        messages=len(events),
        ideal_bits=sum(event.ideal_bits or 0.0 for event in events),
        payload_bytes=sum(event.payload_bytes or 0 for event in events),
        frame_bytes=sum(event.frame_bytes or 0 for event in events),
        wire_bytes=sum(known) if known and len(known) == len(events) else None,
    )


def _client(site: Site, partition: int) -> FederationClient:
    share = site.shares[partition]
    train = share.seen(len(share.rounds))
    return FederationClient(
        client=client_name(partition),
        network=share.network,
        train=len(train),
        test=len(share.test),
        classes=len(np.unique(site.dataset.y_train[train])),
    )


def _remarks(row: str, records: Sequence[RoundRecord]) -> list[str]:
    """Who was rejected or late, which rounds came to nothing, and why."""
    remarks = []
    reasons = Counter(one.reason for record in records for one in record.rejected)
    if reasons:
        shown = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(_SHOWN))
        more = f"; and {len(reasons) - _SHOWN} more reasons" if len(reasons) > _SHOWN else ""
        remarks.append(f"{row}: {sum(reasons.values())} replies were rejected: {shown}{more}")
    if late := sum(len(record.late) for record in records):
        remarks.append(f"{row}: {late} replies missed the deadline")
    if void := [record for record in records if record.void]:
        first = f"round {void[0].number}: {void[0].void}"
        remarks.append(f"{row}: {len(void)} rounds came to nothing; {first}")
    return remarks
