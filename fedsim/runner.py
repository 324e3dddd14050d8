"""Carries a scenario out: data, models, engine, ledger, summary, plot."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.console import Console
from safetensors.numpy import save_file

from fedsim import data
from fedsim.data import Dataset
from fedsim.engines.plan import DevicePlan, Engine, RunPlan
from fedsim.errors import ScenarioError
from fedsim.measure import ledger, plots, table
from fedsim.measure.summary import Summary, summarise
from fedsim.models import Model, Workshop
from fedsim.progress import Display
from fedsim.run_folder import SUMMARY, run_folder
from fedsim.scenario import ENGINES, LOCAL, Baseline, Scenario
from fedsim.scenario_checks import fleet_problem

__all__ = ["run"]


def run(scenario: Scenario, out: Path | None, force: bool, console: Console, *, quiet: bool = False) -> Path:
    """Run a scenario and fill its run folder.

    Args:
        scenario: from :func:`fedsim.scenario.load`.
        out: the run folder; ``runs/<name>-<seed>`` by default.
        force: replace a finished run.
        console: where progress and results are printed.
        quiet: print neither.

    Returns:
        the run folder: ``summary.json``, ``ledger.parquet``, ``tradeoff.png``, ``training.json``,
        ``scenario.yaml``, ``models/`` and ``logs/``.

    Raises:
        FedsimError: nothing is left behind then.
    """
    started = time.monotonic()
    out = Path("runs") / f"{scenario.name}-{scenario.seed}" if out is None else out
    with run_folder(out, force=force) as work:
        display = Display(console, quiet=quiet)
        dataset = data.load(scenario.data.name)
        if problem := fleet_problem(scenario, len(dataset.x_test)):
            raise ScenarioError(scenario.name, [problem])
        with display.live():
            workshop = Workshop(dataset, scenario.seed, work / "models", display)
            models = _make_models(scenario, workshop)
            fallback = _fallback(scenario, models, workshop)
            plan = _plan(scenario, dataset, models, fallback, out.resolve().name, work)
            engine: Engine = importlib.import_module(ENGINES[scenario.engine].module).run
            with display.task("streaming the test set", plan.total_samples) as task:
                mended = engine(plan, task.reach)
        summary = _conclude(scenario, models, plan, work, started)
        plan.samples.unlink()
    for remark in mended:
        console.print(f"Note: {remark}.")
    if not quiet:
        table.print_results(summary, console)
    return out


def _make_models(scenario: Scenario, workshop: Workshop) -> list[Model]:
    """All models, in the order of the rows: baselines, then the sweep."""
    baselines = [workshop.baseline(scenario, baseline) for baseline in scenario.baselines]
    return baselines + [workshop.trained(point, setting) for setting, point in scenario.points()]


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
    devices = [
        DevicePlan(
            client=f"device-{number}",
            in_flight=group.in_flight,
            deadline_s=group.deadline_s,
            fallback=fallback if group.fallback else None,
        )
        for number, group in enumerate(group for group in scenario.fleet for _ in range(group.count))
    ]
    return RunPlan(
        run=name,
        folder=work,
        methods=tuple(model.method for model in models),
        samples=samples,
        sample_count=len(dataset.x_test),
        devices=tuple(devices),
        workers=scenario.server.workers,
        batch_size=scenario.server.batch.size,
        batch_wait_ms=scenario.server.batch.wait_ms,
    )


def _fallback(scenario: Scenario, models: Sequence[Model], workshop: Workshop) -> Path | None:
    """Bundle of the whole network, where a device may answer by itself."""
    if not any(group.fallback for group in scenario.fleet):
        return None
    made = (model.method.bundle for model in models if model.method.local)
    return next(made, None) or workshop.baseline(scenario, Baseline(name=LOCAL)).method.bundle


def _conclude(
    scenario: Scenario, models: Sequence[Model], plan: RunPlan, work: Path, started: float
) -> Summary:
    """Ledger, then everything that derives from it; the summary comes last."""
    events = ledger.read_events(plan.events)
    order = [model.method.name for model in models]
    ledger.check(events, {name: set(range(plan.sample_count)) for name in order})
    records = ledger.write_parquet(events, work / "ledger.parquet")
    for file in plan.events.iterdir():
        file.unlink()
    plan.events.rmdir()
    (work / "scenario.yaml").write_text(yaml.safe_dump(scenario.resolved(), sort_keys=False))
    history = {model.method.name: [asdict(epoch) for epoch in model.history] for model in models}
    (work / "training.json").write_text(json.dumps(history, indent=1))
    costs = {model.method.name: model.cost for model in models}
    summary = summarise(records, scenario.resolved(), scenario.seed, costs, order, time.monotonic() - started)
    plots.plot_tradeoff(summary, work / "tradeoff.png")
    summary.write(work / SUMMARY)
    return summary
