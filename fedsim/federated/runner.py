"""Carries the federation of a scenario out: every method on the same clients and samples, in turn.

::

    scenario --RunSpec, one a method--> rounds on InlineGrid --records, events, state--> figures
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp

from edge.meter import Event
from fedsim import __version__, data
from fedsim.errors import OutputError
from fedsim.federated.checkpoint import FederationCheckpoint, Kept
from fedsim.federated.clients import client_app, give_back, kept_by
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.engines.outcome import Outcome
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.metering import Meter
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.privacy import GaussianPrivacy, PrivacyLoss, privacy_loss
from fedsim.federated.runspec import RunSpec
from fedsim.federated.secure_aggregation import Masked
from fedsim.federated.site import Site
from fedsim.federated.strategy import MethodStrategy, RoundRecord
from fedsim.federated.vectorised import train_batched
from fedsim.measure.federation.summary import MethodRun, accuracies
from fedsim.measure.files import replacing
from fedsim.measure.ledger import read_events
from fedsim.progress import Display
from fedsim.scenario import Scenario
from fedsim.scenario_federation import FEDERATED_ENGINES, INPROCESS, FederatedScenario
from fedsim.scenario_federation_checks import networks_of
from fedsim.teachers import digest_of
from fedsim.training.checkpoint import code_of, identity_of

__all__ = ["Federated", "federate", "specs_of"]


@dataclass(frozen=True)
class Federated:
    """What a federation came to.

    Args:
        site: of all methods.
        rounds: of every method.
        runs: of the methods, in the order of the scenario.
        states: what the server knew at the end, by row.
        events: of the ledger.
        digest: of the data.
    """

    site: Site
    rounds: int
    runs: Sequence[MethodRun]
    states: Mapping[str, State]
    events: Sequence[Event]
    digest: str

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
    times = [one for one, count in zip(federation.slowness, groups, strict=False) for _ in range(count)]
    common: dict[str, Any] = {
        "data": scenario.data.name,
        "clients": scenario.devices,
        "rounds": federation.rounds or 1,
        "networks": tuple(network.model_dump() for network in networks_of(scenario)),
        "partition": partition,
        "missions": missions,
        "personal_test": scenario.data.personal_test,
        "validation": scenario.data.validation,
        "cohort": federation.cohort,
        "dropout": federation.dropout,
        "deadline_s": federation.deadline_s,
        "slowness": {str(client): one for client, one in enumerate(times)},
        "evaluate_every": federation.evaluate_every,
        "limits": federation.limits,
        "seed": scenario.seed,
    }
    return {
        section.row: RunSpec(method=section.name, options=section.all_options, **common)
        for section in federation.methods
    }


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
    events: list[Event] = []
    engine = scenario.engine if isinstance(scenario, FederatedScenario) else INPROCESS
    for row, spec in specs.items():
        work = _Work(row, replace(spec, rounds=rounds), run, digest, checkpoints, display)
        if engine == INPROCESS:
            # Every method has networks of its own: what one makes of them is nothing to the next.
            outcome, more = work.carry_out(replace(site, _made={}))
            events += more
        else:
            outcome = work.carried_out_by(engine)
        loss = _privacy_loss(site, spec.federated_method(), outcome.records, federation.delta)
        runs.append(MethodRun(row, spec.method, outcome.records, loss, outcome.troubles))
        states[row] = outcome.state
    return Federated(site, rounds, runs, states, events, digest)


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

    def carry_out(self, site: Site) -> tuple[Outcome, list[Event]]:
        """All rounds that are left, and what came of them and of those before."""
        spec, method = self._spec, self._spec.federated_method()
        checkpoint = FederationCheckpoint(self._folder / "rounds", self._identity(site, method))
        kept = checkpoint.load()
        done = 0 if kept is None else kept.rounds
        records = [] if kept is None else list(kept.records)
        journal = _Journal(self._folder / "events", done)
        meter = Meter(self._run, self._row, site.dimension, hello=not done)

        def provide(context: Context) -> tuple[Site, FederatedMethod]:
            return site, method

        grid = InlineGrid(
            client_app(provide),
            site.clients,
            sent=meter.sent,
            received=meter.received,
            batched=train_batched(provide),
        )
        with self._display.task(self._row, spec.rounds) as task:
            if kept is not None:
                give_back(grid, kept.clients)
                task.reach(done)
                said = f"Note: {self._row} goes on after round {done} of {spec.rounds}."
                self._display.console.print(said, markup=False)

            def ended(state: State, record: RoundRecord) -> None:
                records.append(record)
                journal.append(meter.take())  # ahead of the checkpoint, which decides what counts
                checkpoint.save(record.number, state, records, frozenset(strategy.informed), kept_by(grid))
                task.advance(_figures(record))

            strategy = _TimedStrategy(meter, spec, site, method, kept, ended)
            if done < spec.rounds:
                app = ServerApp()

                @app.main()
                def main(grid: Grid, context: Context) -> None:
                    strategy.run(grid)

                run_inline(app, grid)
        return Outcome(strategy.state, records), journal.events()

    def carried_out_by(self, engine: str) -> Outcome:
        """All rounds on another engine, which has processes of its own. What it leaves behind is no use."""
        shutil.rmtree(self._folder, ignore_errors=True)
        module = importlib.import_module(FEDERATED_ENGINES[engine].module)
        with _writing(self._folder):
            self._folder.mkdir(parents=True)
        with self._display.task(f"{self._row} ({engine})", self._spec.rounds) as task:
            outcome: Outcome = module.run(self._spec, self._folder, report=task.reach)
        return outcome

    def _identity(self, site: Site, method: FederatedMethod) -> str:
        """A name for everything that decides what the run comes to."""
        inner = method.method if isinstance(method, Masked) else method
        modules = [sys.modules.get(cls.__module__) for cls in type(inner).__mro__[:-1]]
        networks = [site.network(number) for number in range(len(site.networks))]
        return identity_of(
            version=__version__,
            spec=self._spec.to_json(),
            data=self._digest,
            code=code_of(*modules, *networks),
        )


class _TimedStrategy(MethodStrategy):
    """Tells a meter how long the server takes for a round; otherwise :meth:`RunSpec.strategy`."""

    def __init__(
        self,
        meter: Meter,
        spec: RunSpec,
        site: Site,
        method: FederatedMethod,
        kept: Kept | None,
        ended: Callable[[State, RoundRecord], None],
    ) -> None:
        size = spec.clients if spec.cohort is None else spec.cohort
        slowness = {int(partition): times for partition, times in spec.slowness.items()}
        super().__init__(
            site,
            method,
            Cohorts(spec.clients, size, spec.seed, spec.dropout, spec.deadline_s, slowness),
            spec.rounds,
            evaluate_every=spec.evaluate_every,
            limits=spec.bounds,
            state=None if kept is None else kept.state,
            done=0 if kept is None else kept.rounds,
            informed=() if kept is None else kept.informed,
            round_ended=ended,
        )
        self._meter = meter

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As every method's strategy does."""
        start, begun = time.time(), time.perf_counter()
        result = super().aggregate_train(server_round, replies)
        self._meter.merged(self.records[-1].number, start, time.perf_counter() - begun)
        return result


class _Journal:
    """The events of a method's rounds, in a file beside its checkpoint.

    Args:
        folder: of the file.
        rounds: that are over; what is there of later ones is of a round that did not end.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self._folder = folder
        self._path = folder / "events.jsonl"
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            before = read_events(folder) if rounds and self._path.exists() else []
            over = [event for event in before if (event.round or 0) <= rounds]
            with replacing(self._path) as temporary:
                temporary.write_text("".join(f"{event.to_json()}\n" for event in over))

    def append(self, events: Iterable[Event]) -> None:
        """Add the events of a round.

        Raises:
            OutputError: the file cannot be written.
        """
        with _writing(self._folder), self._path.open("a") as file:
            file.writelines(f"{event.to_json()}\n" for event in events)

    def events(self) -> list[Event]:
        """All of them."""
        return read_events(self._folder)


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
