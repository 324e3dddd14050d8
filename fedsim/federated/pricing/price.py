"""Carries the rounds of a method through virtual time, and says when they ended and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.link.spec import Direction
from edge.meter import Event
from fedsim.federated.metering import SERVER, client_name
from fedsim.federated.method import FederatedMethod
from fedsim.federated.pricing.messages import MESSAGE_OVERHEAD, Exchange, messages_of
from fedsim.federated.pricing.premises import Premises
from fedsim.federated.pricing.priced import EnergyUse, PricedRound, PricedRun
from fedsim.federated.pricing.steps import Steps
from fedsim.federated.site import Site
from fedsim.simulator.energy import energy_of
from fedsim.simulator.fleet import Outcome, Round, Server, simulate
from fedsim.simulator.links import Transfers, transfers

__all__ = ["DEVICE_STEP", "LINK_DOWN", "LINK_UP", "PRICED_ROUND", "price"]

#: Stages of the ledger, in virtual time: a message's way to a client, its step, its reply's way, the round.
LINK_DOWN, DEVICE_STEP, LINK_UP, PRICED_ROUND = "link-down", "device-step", "link-up", "link-round"

Floats = NDArray[np.float64]

_NONE = np.zeros(0, np.int64)
_NOBODY = Exchange(_NONE, _NONE, _NONE, training=True)


def price(
    premises: Premises,
    site: Site,
    method: FederatedMethod,
    events: Sequence[Event],
    rounds: Sequence[int],
    *,
    run: str,
    row: str,
    seed: int = 0,
    slowness: Mapping[int, float] | None = None,
    deadline_s: float | None = None,
    overhead: int = MESSAGE_OVERHEAD,
) -> PricedRun:
    """Price all rounds of a method, one behind the other, with nothing else on the links.

    Every message has the bytes that were metered, and their headers. A client's step takes what its device
    needs for the method's :class:`~fedsim.federated.work.Work`; where no device is named, or the method does
    not say, it takes its share of what all steps of the round took on this machine, by samples. Merging takes
    as long as it took here. Of a client that drops out, the server learns when its reply would have begun.

    Args:
        premises: the clients.
        site: of the run.
        method: whose rounds they are.
        events: of the method, as they were metered.
        rounds: numbers of all of its rounds, at least one.
        run: name of the run, for the ledger.
        row: of the results, for the same.
        seed: of jitter and loss.
        slowness: how many times longer than here a step takes, by partition, of clients without a device.
        deadline_s: that a client's work may take; who takes longer is told, and waited for.
        overhead: bytes of the stream that each message has around it, beside its frame.
    """
    found = messages_of(events, rounds, overhead)
    steps, ways = Steps(premises, site, method, slowness or {}), _Ways(premises, seed)
    planned: list[_Planned] = []
    for each in found:
        exchanges = each.exchanges or [_NOBODY]
        for place, one in enumerate(exchanges, 1):
            merge_s = each.merge_s if place == len(exchanges) else 0.0
            taken = steps.seconds(one, each)
            planned.append(
                _Planned(each.number, one, ways.of(one, "down"), taken, ways.of(one, "up"), merge_s)
            )
    outcome = simulate(premises.cells, Server(), premises.devices, [one.turn() for one in planned])
    carried = list(_carried(planned, outcome))
    spent = _spent(premises, outcome, carried[-1].end_s)
    priced = [
        _round(each.number, [one for one in carried if one.plan.round == each.number], spent, deadline_s)
        for each in found
    ]
    return PricedRun(
        rounds=priced,
        rest_w=premises.rest_w,
        promotion_j=spent.promotion_j,
        tail_j=spent.tail_j,
        afterwards_j=spent.afterwards_j,
        notes=[*premises.notes, *steps.notes()],
        events=[*_events(run, row, carried, spent, priced)],
    )


# --- the exchanges, ahead of the simulation and behind it ---------------------------------------


@dataclass(frozen=True, eq=False)
class _Planned:
    """An exchange with what the simulator has to know of it; arrays [clients]."""

    round: int
    exchange: Exchange
    down: Transfers
    compute_s: Floats
    up: Transfers
    merge_s: float

    def turn(self) -> Round:
        """As the simulator has it: with one delay for both ways, of which there and back takes the same."""
        return Round(
            self.exchange.clients,
            self.down.bits,
            self.compute_s,
            self.up.bits,
            (self.down.delay_s + self.up.delay_s) / 2,
            self.merge_s,
        )


@dataclass(frozen=True, eq=False)
class _Carried:
    """An exchange that is over: which jobs of the simulation are its own, and when it began and ended."""

    plan: _Planned
    jobs: slice
    found: NDArray[np.void]
    start_s: float
    end_s: float


def _carried(planned: Sequence[_Planned], outcome: Outcome) -> Iterator[_Carried]:
    first, now = 0, 0.0
    for one in planned:
        jobs = slice(first, first + len(one.exchange.clients))
        found = outcome.jobs[jobs]
        end = float(np.max(found["ended"], initial=now)) + one.merge_s
        yield _Carried(one, jobs, found, now, end)
        first, now = jobs.stop, end


class _Ways:
    """What messages cost on the links of their clients. Each group of clients draws of its own."""

    def __init__(self, premises: Premises, seed: int) -> None:
        self._premises = premises
        groups = range(len(premises.groups))
        self._draws = {
            way: [np.random.default_rng([seed, group, number]) for group in groups]
            for number, way in enumerate(("down", "up"))
        }

    def of(self, exchange: Exchange, way: str) -> Transfers:
        """The messages of one way, [clients]."""
        sizes = exchange.down_bytes if way == "down" else exchange.up_bytes
        bits, delay, wire = (np.zeros(len(sizes)), np.zeros(len(sizes)), np.zeros(len(sizes), np.int64))
        group_of = self._premises.group_of[exchange.clients]
        for group in np.unique(group_of):
            chosen = group_of == group
            link = self._premises.groups[group].link
            direction: Direction = getattr(link, way)
            found = transfers(link, direction, sizes[chosen], self._draws[way][group])
            bits[chosen], delay[chosen], wire[chosen] = found.bits, found.delay_s, found.wire_bytes
        return Transfers(bits, delay, wire)


# --- energy -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Spent:
    """Joules above rest, arrays [jobs] or None where they are not known."""

    compute_j: Floats | None
    down_j: Floats | None
    up_j: Floats | None
    promotion_j: float | None
    tail_j: float | None
    afterwards_j: float | None

    def of(self, chosen: slice) -> EnergyUse:
        """Those of some jobs together."""
        return EnergyUse(*(_sum(each, chosen) for each in (self.compute_j, self.down_j, self.up_j)))


def _sum(values: Floats | None, chosen: slice) -> float | None:
    return None if values is None else float(values[chosen].sum())


def _spent(premises: Premises, outcome: Outcome, end_s: float) -> _Spent:
    """Of all jobs until the last round is over, and of the tails behind that."""
    compute, down, up = np.zeros((3, len(outcome.jobs)))
    promotion_j = tail_j = afterwards_j = 0.0
    for device in np.unique(outcome.device).tolist():
        places = outcome.places_of(device)
        used = energy_of(outcome, device, end_s)
        whole = energy_of(outcome, device, end_s + outcome.devices[device].radio.tail_s)
        compute[places], down[places], up[places] = used.compute_j, used.down_j, used.up_j
        promotion_j += used.promotion_j
        tail_j += whole.tail_j
        afterwards_j += whole.tail_j - used.tail_j
    heard = premises.heard
    return _Spent(
        compute_j=compute if premises.powered else None,
        down_j=down if heard else None,
        up_j=up if heard else None,
        promotion_j=promotion_j if heard else None,
        tail_j=tail_j if heard else None,
        afterwards_j=afterwards_j if heard else None,
    )


# --- what is told -------------------------------------------------------------------------------


def _round(number: int, carried: Sequence[_Carried], spent: _Spent, deadline_s: float | None) -> PricedRound:
    straggler, behind_s, beyond = None, None, _NONE
    for one in carried:
        exchange = one.plan.exchange
        if not exchange.training:
            continue
        replied = exchange.up_bytes > 0
        if replied.any():
            took = one.found["ended"][replied] - one.start_s
            straggler = int(exchange.clients[replied][np.argmax(took)])
            behind_s = float(took.max() - np.median(took))
        if deadline_s is not None:
            beyond = exchange.clients[one.plan.compute_s > deadline_s]
    first, last = carried[0], carried[-1]
    return PricedRound(
        number=number,
        start_s=first.start_s,
        end_s=last.end_s,
        straggler=straggler,
        behind_s=behind_s,
        beyond=tuple(beyond.tolist()),
        down_bytes=sum(int(one.plan.down.wire_bytes.sum()) for one in carried),
        up_bytes=sum(int(one.plan.up.wire_bytes.sum()) for one in carried),
        energy=spent.of(slice(first.jobs.start, last.jobs.stop)),
    )


def _events(
    run: str, row: str, carried: Sequence[_Carried], spent: _Spent, rounds: Sequence[PricedRound]
) -> Iterator[Event]:
    """The ledger's lines. A way on a link is from the wish to send until the message is there."""

    def event(client: str, stage: str, number: int, start_s: float, end_s: float) -> Event:
        return Event(run, row, client, stage, start_s, max(0.0, end_s - start_s), "modelled", round=number)

    for one in carried:
        plan, jobs = one.plan, one.found
        for place, client in enumerate(plan.exchange.clients.tolist()):
            name, number, at = client_name(client), plan.round, one.jobs.start + place
            job = jobs[place]
            down = event(name, LINK_DOWN, number, one.start_s, float(job["due"]))
            yield replace(down, wire_bytes=int(plan.down.wire_bytes[place]), joules=_at(spent.down_j, at))
            if plan.exchange.training:
                step = event(name, DEVICE_STEP, number, float(job["started"]), float(job["computed"]))
                yield replace(step, joules=_at(spent.compute_j, at))
            if plan.exchange.up_bytes[place]:
                up = event(name, LINK_UP, number, float(job["computed"]), float(job["ended"]))
                yield replace(up, wire_bytes=int(plan.up.wire_bytes[place]), joules=_at(spent.up_j, at))
    for each in rounds:
        yield event(SERVER, PRICED_ROUND, each.number, each.start_s, each.end_s)


def _at(values: Floats | None, place: int) -> float | None:
    return None if values is None else float(values[place])
