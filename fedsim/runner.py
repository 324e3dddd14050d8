"""Carries a scenario out: data, models, engine, ledger, summary, plot."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray
from pyarrow.dataset import Dataset as Events
from rich.console import Console
from safetensors.numpy import save_file

from fedsim import data
from fedsim.data import Dataset
from fedsim.engines.plan import Engine, RunPlan
from fedsim.errors import SamplesFailedError, ScenarioError
from fedsim.federated.run import perform_federation, write_federation
from fedsim.federated.runner import Federated, federate
from fedsim.fleet import Paces, cells_of, device_plans, group_plans, remarks
from fedsim.hardware import find_device
from fedsim.inputs import inputs_of
from fedsim.measure import ledger, plots, table
from fedsim.measure.energy_plot import plot_energy
from fedsim.measure.federation.table import print_federation
from fedsim.measure.schema import Task
from fedsim.measure.summary import ModelCost, Summary, summarise
from fedsim.models import Model, Workshop
from fedsim.progress import Display
from fedsim.run_folder import SUMMARY, checkpoints_of, kept_for_later, run_folder
from fedsim.scenario import ENGINES, LOCAL, Baseline, FederatedScenario, Scenario
from fedsim.scenario_checks import fleet_problem
from fedsim.simulator import stages
from fedsim.threads import torch_threads

__all__ = ["Equipment", "perform", "run"]


@dataclass(frozen=True)
class Equipment:
    """What runs may share, and where what outlives them is kept.

    Args:
        dataset: the scenario's data set, where it has been read already.
        checkpoints: folder for trainings that are not finished; by default beside the run's.
        teachers: folder for trained uncut networks; by default each run trains its own.
    """

    dataset: Dataset | None = None
    checkpoints: Path | None = None
    teachers: Path | None = None


def run(
    scenario: Scenario | FederatedScenario,
    out: Path | None,
    force: bool,
    console: Console,
    *,
    quiet: bool = False,
) -> Path:
    """Run a scenario and fill its run folder.

    Args:
        scenario: from :func:`fedsim.scenario.load`.
        out: the run folder; ``runs/<name>-<seed>`` by default.
        force: replace a finished run.
        console: where progress and results are printed.
        quiet: print neither.

    Returns:
        the run folder: ``summary.json``, ``ledger.parquet`` and ``scenario.yaml``; of a split network
        ``tradeoff.png``, ``training.json``, ``models/`` and ``logs/``; of a federation
        ``federation.png``, ``partition.png``, ``rounds.json`` and ``states/``.

    Raises:
        SamplesFailedError: more samples than may have; the run folder is there all the same.
        FedsimError: nothing is left behind then, but for the checkpoints where the trainings were not to
            blame: a full disk, or an engine that failed.
    """
    out = Path("runs") / f"{scenario.name}-{scenario.seed}" if out is None else out
    display = Display(console, quiet=quiet)
    with display.live():
        if isinstance(scenario, FederatedScenario):
            summary = perform_federation(scenario, out, force, display)
        else:
            summary = perform(scenario, scenario.points(), out, force, display, federated=True)
    if not quiet:
        if summary.rows:
            table.print_results(summary, console)
        if summary.federation is not None:
            print_federation(summary.federation, scenario.name, console)
        if scenario.data.remark:
            console.print(f"Note: {scenario.data.remark}.")
    if isinstance(scenario, Scenario):
        _check_failures(scenario, summary, out)
    return out


def _check_failures(scenario: Scenario, summary: Summary, out: Path) -> None:
    """See that no more samples have failed than may.

    Raises:
        SamplesFailedError: names the rows in which they have.
    """
    most = ENGINES[scenario.engine].most_failed if scenario.most_failed is None else scenario.most_failed
    counts = {row.method: (row.outcomes.failed, row.samples) for row in summary.rows}
    wrong = [
        f"{failed} of {count} samples of {method}"
        for method, (failed, count) in counts.items()
        if failed > most * count
    ]
    if wrong:
        allowed = f"allowed is a share of {most:g} (most_failed)"
        raise SamplesFailedError(f"{', '.join(wrong)} failed; {allowed}. The results are in {out}")


def perform(
    scenario: Scenario,
    points: Sequence[tuple[Mapping[str, Any], Scenario]],
    out: Path,
    force: bool,
    display: Display,
    equipment: Equipment = Equipment(),
    *,
    federated: bool = False,
) -> Summary:
    """Run the baselines of a scenario and these points of its sweep.

    A training that is interrupted or killed, or whose run ends for a full disk or in its engine, goes on
    where it was when the same is run again; after any other error it begins again.

    Args:
        scenario: what the points have in common.
        points: from :meth:`Scenario.points`: what names each, and the scenario there.
        out: the run folder.
        force: replace a finished run.
        display: shows the progress.
        equipment: what runs share.
        federated: carry out its federation, too, where it has one.
    """
    started = time.monotonic()
    checkpoints = equipment.checkpoints or checkpoints_of(out)
    computing = torch_threads(scenario.training.threads)
    with run_folder(out, force=force) as work, kept_for_later(checkpoints), computing:
        dataset = equipment.dataset or data.load(scenario.data.name, scenario.data.validation)
        if problem := fleet_problem(scenario, len(dataset.x_test)):
            raise ScenarioError(scenario.name, [problem])
        workshop = Workshop(
            dataset,
            scenario.seed,
            work / "models",
            display,
            checkpoints=checkpoints,
            teachers=equipment.teachers,
            device=scenario.training.device,
            precision=scenario.training.precision,
        )
        inputs = inputs_of(dataset, [scenario], [point for _, point in points])
        models = _make_models(scenario, points, workshop)
        fallback = _fallback(scenario, models, workshop)
        plan = _plan(scenario, dataset, models, fallback, out.resolve().name, work)
        engine: Engine = importlib.import_module(ENGINES[scenario.engine].module).run
        with display.task("streaming the test set", plan.total_samples) as task:
            said = engine(plan, task.reach)
        found = None
        if federated and scenario.federation is not None:
            found = federate(scenario, plan.run, checkpoints, display)
        said += remarks(scenario.fleet, scenario.server, radios=ENGINES[scenario.engine].virtual)
        summary = _conclude(scenario, models, plan, work, inputs, started, found, said)
        plan.samples.unlink()
        shutil.rmtree(work / "schedules")
    return summary


def _make_models(
    scenario: Scenario, points: Sequence[tuple[Mapping[str, Any], Scenario]], workshop: Workshop
) -> list[Model]:
    """All models, in the order of the rows: baselines, then the points."""
    models = [workshop.baseline(scenario, baseline) for baseline in scenario.baselines]
    for setting, point in points:
        models += workshop.trained(point, setting)
    return models


def _plan(
    scenario: Scenario,
    dataset: Dataset,
    models: Sequence[Model],
    fallback: Path | None,
    name: str,
    work: Path,
) -> RunPlan:
    samples = work / "samples.safetensors"
    save_file({"images": dataset.x_test, "labels": dataset.y_test}, samples)
    schedules = work / "schedules"
    schedules.mkdir()
    plan = RunPlan(
        run=name,
        folder=work,
        methods=tuple(model.method for model in models),
        samples=samples,
        sample_count=len(dataset.x_test),
        devices=(),
        workers=scenario.server.workers,
        batch_size=scenario.server.batch.size,
        batch_wait_ms=scenario.server.batch.wait_ms,
        cells=cells_of(scenario.fleet),
        seed=scenario.seed,
    )
    if ENGINES[scenario.engine].virtual:
        server = None if scenario.server.device is None else find_device(scenario.server.device)
        groups = group_plans(scenario.fleet)
        return replace(plan, groups=groups, server=server, duration_s=scenario.duration_s)
    paces = _paces(scenario, plan)
    devices = device_plans(scenario.fleet, plan.sample_count, scenario.seed, fallback, schedules, paces)
    return replace(plan, devices=tuple(devices))


def _paces(scenario: Scenario, plan: RunPlan) -> Paces:
    """What head and encoder of the methods take on the devices that the fleet names."""
    names = dict.fromkeys(group.device for group in scenario.fleet if group.device is not None)
    if not names:
        return {}
    here = stages.measured(plan.methods, plan.samples, plan.batch_size)
    times = {
        name: {method: stages.device_times(find_device(name), one) for method, one in here.items()}
        for name in names
    }
    return {
        name: {method: (one.head_s, one.encode_s) for method, one in mine.items()}
        for name, mine in times.items()
    }


def _fallback(scenario: Scenario, models: Sequence[Model], workshop: Workshop) -> Path | None:
    """Bundle of the whole network, where a device may answer by itself."""
    if not any(group.fallback for group in scenario.fleet):
        return None
    made = (model.method.bundle for model in models if model.method.local)
    return next(made, None) or workshop.baseline(scenario, Baseline(name=LOCAL)).method.bundle


def _conclude(
    scenario: Scenario,
    models: Sequence[Model],
    plan: RunPlan,
    work: Path,
    inputs: Mapping[str, str],
    started: float,
    federated: Federated | None,
    said: Sequence[str],
) -> Summary:
    """Ledger, then everything that derives from it; the summary comes last."""
    order = [model.method.name for model in models]
    rounds = ledger.to_table(federated.events if federated else ())
    ledger.write_tables(chain(ledger.read_tables(plan.events), [rounds]), work / "ledger.parquet")
    records = ledger.open_parquet(work / "ledger.parquet")
    ledger.check(records, {name: _expected(records, name, plan) for name in order})
    for file in plan.events.iterdir():
        file.unlink()
    plan.events.rmdir()
    (work / "scenario.yaml").write_text(yaml.safe_dump(scenario.resolved(), sort_keys=False))
    history = {model.method.name: [asdict(epoch) for epoch in model.history] for model in models}
    (work / "training.json").write_text(json.dumps(history, indent=1))
    costs = {model.method.name: _cost(scenario, model) for model in models}
    duration = time.monotonic() - started
    summary = summarise(
        records, scenario.resolved(), scenario.seed, costs, order, duration, inputs, said, plan.sample_count
    )
    plots.plot_tradeoff(summary, work / "tradeoff.png")
    if any(row.energy for row in summary.rows):
        plot_energy(summary, work / "energy.png")
    if federated is not None:
        part = write_federation(federated, scenario.name, work)
        summary = summary.model_copy(update={"federation": part})
    summary.write(work / SUMMARY)
    return summary


def _expected(records: Events, method: str, plan: RunPlan) -> Collection[int] | NDArray[np.int64]:
    """The samples that a method had to bring to an end: all; those that were begun, in virtual time."""
    if not plan.groups:
        return range(plan.sample_count)
    begun = (pc.field("method") == method) & (pc.field("stage") == "head")
    return np.asarray(records.to_table(["sample"], begun)["sample"].to_numpy(), np.int64)


def _cost(scenario: Scenario, model: Model) -> ModelCost:
    """What the ledger does not know of a row."""
    lost = sum(group.count * group.erasure for group in scenario.fleet) / scenario.devices
    return replace(
        model.cost,
        level=model.method.level,
        erasure=lost or None,
        remarks=tuple(model.remarks),
        tasks={
            task.name: Task(metric=task.metric, value=task.value, interval=task.interval)
            for task in model.tasks
        },
    )
