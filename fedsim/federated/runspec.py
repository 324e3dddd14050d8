"""A federated run as a text: all that a process needs to know, to play a part in it on whatever engine.

Flower hands its apps texts and numbers, in processes that share no memory. So a run is described by plain
values, as JSON, and every process makes the site and the method of them anew::

    scenario --RunSpec--> JSON --run configuration--> ServerApp, ClientApps: site(), federated_method()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fedsim import data
from fedsim.errors import FederationError, Problem
from fedsim.federated import sites
from fedsim.federated.checkpoint import Kept
from fedsim.federated.checks import Limits
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.options import filled, method_of, option_problems
from fedsim.federated.site import NetworkPlan, Site
from fedsim.federated.strategy import Merged, MethodStrategy, RoundRecord

__all__ = ["RunSpec"]

_REQUIRED = 5  # keys of a run without a default, which stand first


@dataclass(frozen=True)
class _Growth:
    """Keys of missions."""

    base: tuple[int, ...]
    field: tuple[int, ...]
    classes: int
    shots: int
    disjoint: bool = False


@dataclass(frozen=True)
class RunSpec:
    """One method, carried out on one site.

    Values are those of JSON throughout: what :meth:`to_json` gives, :meth:`from_json` reads to an equal one.

    Args:
        data: name of the data set.
        clients: how many.
        method: a name of :func:`fedsim.federated.method.find`.
        rounds: in all.
        networks: of clients, in turn; each as the arguments of
            :class:`~fedsim.federated.site.NetworkPlan`.
        network_of: number of a client's network, by partition; who is not there has one in turn.
        options: of the method, nested ones as mappings (:func:`fedsim.federated.options.method_of`).
        partition: its ``kind`` and options, as for :func:`fedsim.federated.sites.dealt_site`; or
        missions: ``base``, ``field``, ``classes``, ``shots``, ``disjoint``, as for
            :func:`fedsim.federated.sites.growing_site`.
        personal_test: share of samples that clients test with; by default what those two have.
        validation: share of the training set that takes the place of the test set; None for the test set.
        cohort: clients of a round; None for all.
        dropout: probability that a client of a cohort is not heard of again.
        deadline_s: seconds that a client's step may take; None for no deadline.
        slowness: how many times longer a step takes on a client's device, by partition.
        evaluate_every: rounds from one evaluation to the next.
        limits: what the server puts up with, as the arguments of :class:`~fedsim.federated.checks.Limits`.
        seed: of everything that is drawn.
        absent: clients that have gone for good: they are asked nothing, and have not replied.
        results: folder that the server writes to, on engines that have it in a process of its own.

    Raises:
        FederationError: names the key, what is wrong with it and what is allowed.
    """

    data: str
    clients: int
    method: str
    rounds: int
    networks: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    partition: Mapping[str, Any] | None = None
    missions: Mapping[str, Any] | None = None
    personal_test: float | None = None
    validation: float | None = None
    cohort: int | None = None
    dropout: float = 0.0
    deadline_s: float | None = None
    slowness: Mapping[str, float] = field(default_factory=dict)
    network_of: Mapping[str, int] = field(default_factory=dict)
    evaluate_every: int = 1
    limits: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    absent: tuple[int, ...] = ()
    results: str | None = None

    def __post_init__(self) -> None:
        if wrong := [*option_problems("", RunSpec, vars(self))] or [*self._problems()]:
            raise _refused("; ".join(map(str, wrong)))

    def _problems(self) -> Iterator[Problem]:
        """What is wrong, where every value is of its kind."""
        for name in ("clients", "rounds", "evaluate_every"):
            if (value := getattr(self, name)) < 1:
                yield Problem(name, "has to be 1 or more", str(value))
        if self.seed < 0:
            yield Problem("seed", "has to be 0 or more", str(self.seed))
        if not self.networks:
            yield Problem("networks", "clients need at least one")
        for number, network in enumerate(self.networks):
            yield from option_problems(f"networks.{number}", NetworkPlan, network)
        yield from option_problems("limits", Limits, self.limits)
        if (self.partition is None) == (self.missions is None):
            yield Problem("partition", "either this or missions say who holds what")
        if self.missions is not None:
            yield from option_problems("missions", _Growth, self.missions)
        yield from self._client_problems()

    def _client_problems(self) -> Iterator[Problem]:
        """What is wrong with what single clients have."""
        if gone := [number for number in self.absent if not 0 <= number < self.clients]:
            yield Problem("absent", "has to be numbers of clients", str(gone[0]))
        for client in self.slowness:
            if not client.isdecimal():
                yield Problem(f"slowness.{client}", "has to be the number of a client")
        for client, number in self.network_of.items():
            if not client.isdecimal() or int(client) >= self.clients:
                yield Problem(f"network_of.{client}", "has to be the number of a client")
            if not 0 <= number < len(self.networks):
                message = f"has to be the number of one of {len(self.networks)} networks"
                yield Problem(f"network_of.{client}", message, str(number))

    # --- as a text ------------------------------------------------------------------------------

    def to_json(self) -> str:
        """As one line of JSON; the same for equal ones."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        """The inverse of :meth:`to_json`.

        Raises:
            FederationError: it is no JSON, or not of a run.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise _refused(f"no JSON: {error}") from error
        if not isinstance(values, dict):
            raise _refused(f"{Problem.shown(values)} is not a mapping")
        known = [one.name for one in fields(cls)]
        if not set(known[:_REQUIRED]) <= values.keys() <= set(known):
            raise _refused("; ".join(map(str, option_problems("", cls, values))))
        for name in ("networks", "absent"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)

    # --- what is made of it ---------------------------------------------------------------------

    def site(self, *, together: bool) -> Site:
        """Data, shares and networks.

        Args:
            together: this process has all clients; see :class:`fedsim.federated.site.Site`.

        Raises:
            DataError: data that is absent, or cannot be shared out so.
            ModelError, FederationError: networks that cannot be made, or do not go together.
        """
        dataset = data.load(self.data, self.validation)
        networks = [NetworkPlan(**network) for network in self.networks]
        common: dict[str, Any] = {"clients": self.clients, "seed": self.seed, "together": together}
        if self.personal_test is not None:
            common["personal_test"] = self.personal_test
        if self.missions is None:
            assert self.partition is not None
            site = sites.dealt_site(dataset, self.partition, networks, **common)
        else:
            growth = dict(self.missions)
            base, met = growth.pop("base"), growth.pop("field")
            site = sites.growing_site(dataset, base, met, networks, **growth, **common)
        shares = [
            replace(share, network=self.network_of.get(str(client), share.network))
            for client, share in enumerate(site.shares)
        ]
        return replace(site, shares=shares)

    def federated_method(self) -> FederatedMethod:
        """The method with its options.

        Raises:
            FederationError: an unknown method or option, or a value that is not allowed.
        """
        return method_of(self.method, self.options)

    def strategy(
        self,
        site: Site,
        method: FederatedMethod,
        *,
        kept: Kept | None = None,
        merged: Merged | None = None,
        round_ended: Callable[[State, RoundRecord], None] | None = None,
    ) -> MethodStrategy:
        """The server's side, the same on every engine.

        Args:
            site: of :meth:`site`.
            method: of :meth:`federated_method`.
            kept: the run as it was after a round, to go on from; by default it begins at the method's start.
            merged: called when the replies of a round have been merged.
            round_ended: called after every round with the state and the record of it.
        """
        return MethodStrategy(
            site,
            method,
            self.cohorts,
            self.rounds,
            evaluate_every=self.evaluate_every,
            limits=self.bounds,
            state=None if kept is None else kept.state,
            done=0 if kept is None else kept.rounds,
            informed=() if kept is None else kept.informed,
            absent=self.absent,
            merged=merged,
            round_ended=round_ended,
        )

    @property
    def cohorts(self) -> Cohorts:
        """Who takes part in which round."""
        size = self.clients if self.cohort is None else self.cohort
        slowness = {int(partition): times for partition, times in self.slowness.items()}
        return Cohorts(self.clients, size, self.seed, self.dropout, self.deadline_s, slowness)

    @property
    def bounds(self) -> Limits:
        """What the server puts up with."""
        made: Limits = filled(Limits, self.limits)
        return made


def _refused(what: str) -> FederationError:
    return FederationError(f"the description of the run: {what}")
