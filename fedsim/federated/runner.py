"""Carries the federation of a scenario out: every method on the same clients and samples, in turn.

::

    scenario --RunSpec, one a method--> rounds on InlineGrid --records, events, state--> figures
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.meter import Event
from fedsim import __version__, data
from fedsim.errors import OutputError
from fedsim.federated.checkpoint import FederationCheckpoint, Kept
from fedsim.federated.engines import inline
from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.journal import Journal
from fedsim.federated.metering import Meter
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.privacy import GaussianPrivacy, PrivacyLoss, privacy_loss
from fedsim.federated.rounds import RoundRecord
from fedsim.federated.runspec import RunSpec
from fedsim.federated.secure_aggregation import Masked
from fedsim.federated.site import Site
from fedsim.fleet import remarks
from fedsim.measure.federation.summary import MethodRun, accuracies
from fedsim.progress import Display
from fedsim.scenario import Scenario
from fedsim.scenario_federation import DEPLOYMENT, FEDERATED_ENGINES, INPROCESS, FederatedScenario
from fedsim.scenario_federation_checks import networks_of
from fedsim.teachers import digest_of
from fedsim.training.checkpoint import code_of, identity_of

if TYPE_CHECKING:
    from fedsim.federated.pricing.priced import PricedRun

__all__ = ["Federated", "federate", "specs_of"]


@dataclass(frozen=True)
class Federated:
    """What a federation came to.

    Args:
        site: of all methods.
        rounds: of every method.
        runs: of the methods, in the order of the scenario.
        states: what the server knew at the end, by row.
        published: folders of what is of use without the federation, by row, of the methods that have any.
        events: of the ledger.
        digest: of the data.
        remarks: what is to be known of the fleet's devices and links, where rounds were priced on them.
    """

    site: Site
    rounds: int
    runs: Sequence[MethodRun]
    states: Mapping[str, State]
    published: Mapping[str, Path]
    events: Sequence[Event]
    digest: str
    remarks: Sequence[str] = ()

    def records(self) -> str:
        """All rounds with the results of each client, as JSON: ``{row: [round, ...]}``."""
        return json.dumps({run.row: [asdict(record) for record in run.records] for run in self.runs})


def specs_of(scenario: Scenario | FederatedScenario) -> dict[str, RunSpec]:
    """What each method is to do, by row, in the order of the scenario.

    Where missions say how many rounds there are, they are not known here yet, and ``rounds`` is 1.
    """
    federation = scenario.federation
    assert federation is not None
    missions = None
    if federation.missions is not None:
        known = federation.missions.base
        missions = {
            **federation.missions.model_dump(),
            "base": list(range(known)),
            "field": list(range(known, data.find(scenario.data.name).classes)),
        }
    partition = None if scenario.data.partition is None else scenario.data.partition.model_dump()
    groups = [group.count for group in scenario.fleet]
    common: dict[str, Any] = {
        "data": scenario.data.name,
        "clients": scenario.devices,
        "rounds": federation.rounds or 1,
        "networks": tuple(network.model_dump() for network in networks_of(scenario)),
        "network_of": _each(federation.network_of, groups),
        "partition": partition,
        "missions": missions,
        "personal_test": scenario.data.personal_test,
        "validation": scenario.data.validation,
        "cohort": federation.cohort,
        "dropout": federation.dropout,
        "deadline_s": federation.deadline_s,
        "slowness": _each(federation.slowness, groups),
        "evaluate_every": federation.evaluate_every,
        "limits": federation.limits,
        "seed": scenario.seed,
    }
    return {
        section.row: RunSpec(method=section.name, options=section.all_options, **common)
        for section in federation.methods
    }


def _each(values: Sequence[Any], groups: Sequence[int]) -> dict[str, Any]:
    """The value of each client, by partition, of those of the groups of the fleet; none of none."""
    each = [value for value, count in zip(values, groups, strict=False) for _ in range(count)]
    return {str(client): value for client, value in enumerate(each)}


def federate(
    scenario: Scenario | FederatedScenario, run: str, checkpoints: Path, display: Display
) -> Federated:
    """Carry all methods of a scenario's federation out.

    A run that is interrupted or killed goes on behind its last finished round when the same is run again.

    Args:
        scenario: with a federation.
        run: name of the run.
        checkpoints: folder for methods that are finished or on their way; the caller removes it.
        display: shows the progress.

    Raises:
        FedsimError: data that is absent or cannot be shared out so, a network that cannot be made, a method
            that nothing came of.
    """
    specs = specs_of(scenario)
    federation = scenario.federation
    assert federation is not None
    site = next(iter(specs.values())).site(together=True)
    rounds = federation.rounds or _missions(site)
    found = site.dataset
    digest = digest_of(found.x_train, found.y_train, found.x_test, found.y_test)
    runs: list[MethodRun] = []
    states: dict[str, State] = {}
    published: dict[str, Path] = {}
    events: list[Event] = []
    engine = scenario.engine if isinstance(scenario, FederatedScenario) else INPROCESS
    prices = _prices(scenario, site, run)
    for row, spec in specs.items():
        work = _Work(row, replace(spec, rounds=rounds), run, digest, checkpoints, display)
        if engine == INPROCESS:
            outcome = work.carry_out(site)
        else:
            outcome = work.carried_out_by(
                engine, site, **({"tls": federation.tls} if engine == DEPLOYMENT else {})
            )
        loss = _privacy_loss(site, spec.federated_method(), outcome.records, federation.delta)
        priced = prices(row, replace(spec, rounds=rounds), outcome) if prices else None
        runs.append(MethodRun(row, spec.method, outcome.records, loss, outcome.troubles, priced))
        states[row] = outcome.state
        if work.published.exists():
            published[row] = work.published
        events += [*outcome.events, *(priced.events if priced else ())]
    # Beside a split network, the run tells these with the rest of its results.
    said = remarks(scenario.fleet) if prices and isinstance(scenario, FederatedScenario) else []
    return Federated(site, rounds, runs, states, published, events, digest, said)


def _prices(
    scenario: Scenario | FederatedScenario, site: Site, run: str
) -> Callable[[str, RunSpec, Outcome], PricedRun] | None:
    """What prices a method's rounds on the devices and links of the fleet; None where it names neither."""
    if not any(group.device or group.link for group in scenario.fleet):
        return None
    from fedsim.federated.pricing import premises_of, price  # noqa: PLC0415  (loads numba)

    premises = premises_of(scenario.fleet)

    def priced(row: str, spec: RunSpec, outcome: Outcome) -> PricedRun:
        numbers = [record.number for record in outcome.records]
        return price(
            premises,
            site,
            spec.federated_method(),
            outcome.events,
            numbers,
            run=run,
            row=row,
            seed=spec.seed,
            slowness=spec.cohorts.slowness,
            deadline_s=spec.deadline_s,
        )

    return priced


def _missions(site: Site) -> int:
    """The last round in which a client has samples."""
    numbers = range(1, max(len(share.rounds) for share in site.shares) + 1)
    return max(n for n in numbers if n == 1 or any(len(share.samples(n)) for share in site.shares))


class _Work:
    """One method on its way."""

    def __init__(
        self, row: str, spec: RunSpec, run: str, digest: str, checkpoints: Path, display: Display
    ) -> None:
        self._row = row
        self._spec = spec
        self._run = run
        self._digest = digest  # of the data
        self._folder = checkpoints / f"federation-{row}"
        self._display = display

    @property
    def published(self) -> Path:
        """The folder of what is of use without the federation."""
        return self._folder / "published"

    def carry_out(self, site: Site) -> Outcome:
        """All rounds that are left in this process, and what came of them and of those before."""
        # Every method has networks of its own: what one makes of them is nothing to the next.
        site = replace(site, display=self._display, _made={})
        method = self._spec.federated_method()
        checkpoint = FederationCheckpoint(self._folder / "rounds", self._identity(site))
        kept = checkpoint.load()
        done = 0 if kept is None else kept.rounds
        journal = Journal(self._folder / "events", done)
        meter = Meter(self._run, self._row, site.dimension, hello=not done, lost=self._spec.cohorts.lost)
        with self._display.task(self._row, self._spec.rounds) as task:
            if done:
                task.reach(done)
                said = f"Note: {self._row} goes on after round {done} of {self._spec.rounds}."
                self._display.console.print(said, markup=False)

            def keep(now: Kept) -> None:
                journal.append(meter.take())  # ahead of the checkpoint, which decides what counts
                method.publish(site, now.state, self.published)
                checkpoint.save(now.rounds, now.state, now.records, now.informed, now.clients)
                if now.records:
                    task.advance(_figures(now.records[-1]))

            outcome = inline.run(
                self._spec,
                site,
                kept=kept,
                keep=keep,
                at_once=True,
                sent=meter.sent,
                received=meter.received,
                merged=meter.merged,
            )
        return replace(outcome, events=journal.events())

    def carried_out_by(self, engine: str, site: Site, **options: Any) -> Outcome:
        """All rounds on another engine, which has processes of its own. What it leaves behind is no use."""
        shutil.rmtree(self._folder, ignore_errors=True)
        module = importlib.import_module(FEDERATED_ENGINES[engine].module)
        with _writing(self._folder):
            self._folder.mkdir(parents=True)
        with self._display.task(f"{self._row} ({engine})", self._spec.rounds) as task:
            outcome: Outcome = module.run(self._spec, self._folder, report=task.reach, **options)
        self._spec.federated_method().publish(replace(site, _made={}), outcome.state, self.published)
        events = [replace(event, run=self._run, method=self._row) for event in outcome.events]
        return replace(outcome, events=events)

    def _identity(self, site: Site) -> str:
        """A name for everything that decides what the run comes to."""
        method = self._spec.federated_method()
        inner = method.method if isinstance(method, Masked) else method
        modules = [sys.modules.get(cls.__module__) for cls in type(inner).__mro__[:-1]]
        networks = [site.network(number) for number in range(len(site.networks))]
        return identity_of(
            version=__version__,
            spec=self._spec.to_json(),
            data=self._digest,
            code=code_of(*modules, *networks),
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def _figures(record: RoundRecord) -> dict[str, float]:
    """What a bar shows of a round: accuracies among all classes, in per cent."""
    return {
        f"{one.predictor}, {one.test}": 100 * one.accuracy
        for one in accuracies(record.results)
        if one.classes == "all" and one.accuracy is not None
    }


def _privacy_loss(
    site: Site, method: FederatedMethod, records: Sequence[RoundRecord], delta: float
) -> PrivacyLoss | None:
    """What a method has given away that is private."""
    inner = method.method if isinstance(method, Masked) else method
    privacy = getattr(inner, "privacy", None)
    return privacy_loss(site, privacy, records, delta) if isinstance(privacy, GaussianPrivacy) else None
