"""From rounds that were carried through virtual time to the figures of what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedsim.federated.metering import client_name
from fedsim.measure.federation.cost_schema import FederationCost, Joules, Reached, RoundCost, Straggler
from fedsim.measure.federation.schema import Accuracy

if TYPE_CHECKING:  # what prices is loaded where something is to be priced
    from fedsim.federated.pricing.priced import PricedRun

__all__ = ["NEAR", "cost_of"]

#: How near to its best a method has to come for having reached it.
NEAR = 0.01


def cost_of(priced: PricedRun, accuracies: Sequence[Sequence[Accuracy]]) -> FederationCost:
    """The figures of a method's rounds.

    Args:
        priced: the rounds.
        accuracies: behind each of them; none where nothing was evaluated.
    """
    took = np.array([one.duration_s for one in priced.rounds])
    rounds = [
        RoundCost(
            round=one.number,
            end_s=one.end_s,
            duration_s=one.duration_s,
            straggler=None if one.straggler is None else client_name(one.straggler),
            behind_s=one.behind_s,
            beyond=[client_name(client) for client in one.beyond],
            down_wire_bytes=one.down_bytes,
            up_wire_bytes=one.up_bytes,
            joules=one.energy.total_j,
            joules_so_far=priced.joules(place),
        )
        for place, one in enumerate(priced.rounds, 1)
    ]
    last = Counter(one.straggler for one in rounds if one.straggler is not None).most_common(1)
    behind = [one.behind_s for one in rounds if one.behind_s is not None]
    return FederationCost(
        duration_s=rounds[-1].end_s,
        round_mean_s=float(took.mean()),
        round_p95_s=float(np.percentile(took, 95)),
        round_worst_s=float(took.max()),
        straggler=Straggler(client=last[0][0], rounds=last[0][1]) if last else None,
        behind_mean_s=float(np.mean(behind)) if behind else None,
        down_wire_bytes=sum(one.down_wire_bytes for one in rounds),
        up_wire_bytes=sum(one.up_wire_bytes for one in rounds),
        joules=_joules(priced),
        reached=[*_reached(rounds, accuracies)],
        rounds=rounds,
    )


def _joules(priced: PricedRun) -> Joules:
    spent = [one.energy for one in priced.rounds]
    rest = None if priced.rest_w is None else priced.rest_w * priced.rounds[-1].end_s
    return Joules(
        compute=_sum([one.compute_j for one in spent]),
        down=_sum([one.down_j for one in spent]),
        up=_sum([one.up_j for one in spent]),
        afterwards=priced.afterwards_j,
        promotion=priced.promotion_j,
        tail=priced.tail_j,
        rest=rest,
        total=priced.total_j,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _reached(rounds: Sequence[RoundCost], accuracies: Sequence[Sequence[Accuracy]]) -> Iterator[Reached]:
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for place, each in enumerate(accuracies):
        for one in each:
            if one.accuracy is not None:
                kind = one.predictor, one.classes, one.test
                found.setdefault(kind, []).append((place, one.accuracy))
    for (predictor, classes, test), values in found.items():
        best = max(value for _, value in values)
        target = max(0.0, best - NEAR)
        place, accuracy = next(pair for pair in values if pair[1] >= target)
        yield Reached.model_validate(
            {
                "predictor": predictor,
                "classes": classes,
                "test": test,
                "best": best,
                "target": target,
                "round": rounds[place].round,
                "accuracy": accuracy,
                "time_s": rounds[place].end_s,
                "down_wire_bytes": sum(one.down_wire_bytes for one in rounds[: place + 1]),
                "up_wire_bytes": sum(one.up_wire_bytes for one in rounds[: place + 1]),
                "joules": rounds[place].joules_so_far,
            }
        )
