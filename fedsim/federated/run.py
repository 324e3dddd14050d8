"""The run folder of a federation: ledger, rounds, states, pictures, and the summary last."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import yaml

from fedsim.federated.runner import Federated, federate
from fedsim.measure import environment, ledger
from fedsim.measure.federation.cost_plots import plot_cost
from fedsim.measure.federation.plots import plot_federation, plot_partition
from fedsim.measure.federation.schema import Federation
from fedsim.measure.federation.summary import summarise_federation
from fedsim.measure.schema import Summary
from fedsim.progress import Display
from fedsim.run_folder import SUMMARY, checkpoints_of, kept_for_later, run_folder
from fedsim.scenario_federation import FederatedScenario

__all__ = ["perform_federation", "write_federation"]


def perform_federation(scenario: FederatedScenario, out: Path, force: bool, display: Display) -> Summary:
    """Carry a scenario out that is federated only.

    Args:
        scenario: from :func:`fedsim.scenario.load`.
        out: the run folder.
        force: replace a finished run.
        display: shows the progress.

    Raises:
        FedsimError: what is finished is kept where the same run can go on from it.
    """
    started = time.monotonic()
    checkpoints = checkpoints_of(out)
    with run_folder(out, force=force) as work, kept_for_later(checkpoints):
        federated = federate(scenario, out.resolve().name, checkpoints, display)
        ledger.write_parquet(federated.events, work / "ledger.parquet")
        (work / "scenario.yaml").write_text(yaml.safe_dump(scenario.resolved(), sort_keys=False))
        part = write_federation(federated, scenario.name, work)
        summary = Summary(
            scenario=scenario.resolved(),
            inputs={f"the data set {scenario.data.name!r}": federated.digest},
            seed=scenario.seed,
            environment=environment.describe(),
            duration_s=time.monotonic() - started,
            rows=[],
            federation=part,
        )
        summary.write(work / SUMMARY)
    return summary


def write_federation(federated: Federated, name: str, work: Path) -> Federation:
    """Write what a federation leaves beside its summary, and return its part of that.

    Args:
        federated: what it came to.
        name: of the scenario.
        work: the run folder.
    """
    part = summarise_federation(
        federated.site, federated.runs, federated.events, federated.rounds, federated.remarks
    )
    (work / "rounds.json").write_text(federated.records())
    states = work / "states"
    states.mkdir()
    for row, state in federated.states.items():
        (states / f"{row}.safetensors").write_bytes(state.to_bytes())
    for row, folder in federated.published.items():
        shutil.copytree(folder, work / "bundles" / row)
    plot_federation(part, name, work / "federation.png")
    plot_partition(federated.site, name, work / "partition.png")
    if any(row.cost is not None for row in part.rows):
        plot_cost(part, name, work / "federation-cost.png")
    return part
