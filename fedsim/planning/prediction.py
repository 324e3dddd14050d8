"""What a candidate costs on the fleet of a scenario: in virtual time, or as its runs have found already."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from edge.bundle import BundleError
from fedsim import data
from fedsim.engines.plan import Method, RunPlan
from fedsim.engines.virtual import transport
from fedsim.fleet import cells_of, group_plans
from fedsim.hardware import find_device
from fedsim.hardware.transport import Transport
from fedsim.measure.schema import Row
from fedsim.measure.summary import ModelCost, summarise
from fedsim.planning.candidates import Candidate, Trained
from fedsim.planning.errors import PlanningError
from fedsim.planning.replay import material_of
from fedsim.progress import Display
from fedsim.scenario import Scenario
from fedsim.simulator import stages
from fedsim.simulator.forecast import forecast

__all__ = ["Costs", "Predictor", "costs_of", "predict", "predicted", "summarised"]

#: Keys of a scenario that say nothing of its fleet: what is trained, and how it is carried out.
_NOT_OF_THE_FLEET = {
    *("name", "seed", "seeds", "data", "model", "training", "tasks", "baselines", "federation"),
    *("engine", "sweep"),
}
_IMAGES = 64  #: on which the times of a model are measured here
_CAUSES = ("head", "encode", "send", "promotion", "tail", "idle", "base")


@dataclass(frozen=True)
class Costs:
    """What a sample costs, mean over the fleet. None where it is not known.

    Raises:
        ValueError: a figure that is not finite, or below 0.
    """

    latency_p50_ms: float | None  #: of the samples that ended well, from when they were due
    latency_p95_ms: float | None
    wire_bytes: float | None = None  #: towards the server; 0 of a local network
    joules: float | None = None  #: of the device, above what it draws at rest
    energy: Mapping[str, float] = field(default_factory=dict)  #: joules by cause, those at rest included
    failed: float = 0.0  #: share of the samples that had no answer within their deadline
    notes: tuple[str, ...] = ()  #: what is to be known of them, in words

    def __post_init__(self) -> None:
        amounts = [self.latency_p50_ms, self.latency_p95_ms, self.wire_bytes, self.joules, self.failed]
        if not all(value is None or (math.isfinite(value) and value >= 0) for value in amounts):
            raise ValueError(f"{self}: every figure has to be finite, and at least 0")
        if self.failed > 1:
            raise ValueError(f"{self}: more samples failed than there were")


#: Costs of candidates on the fleet of a scenario, in the candidates' order.
Predictor = Callable[[Scenario, Sequence[Candidate]], list[Costs]]


def predicted(
    scenario: Scenario, candidates: Sequence[Candidate], display: Display | None = None
) -> list[Costs]:
    """The costs of candidates: from their own runs where these were of this fleet, else predicted now.

    Args:
        scenario: its fleet.
        candidates: any number.
        display: shows the progress; by default nothing does.

    Raises:
        FedsimError: a candidate that cannot be predicted.
    """
    known = [summarised(scenario, candidate) for candidate in candidates]
    missing = [one for one, costs in zip(candidates, known, strict=True) if costs is None]
    made = iter(predict(scenario, missing, display) if missing else ())
    return [next(made) if costs is None else costs for costs in known]


def predict(
    scenario: Scenario, candidates: Sequence[Candidate], display: Display | None = None
) -> list[Costs]:
    """The costs of candidates, each carried through virtual time with the payloads that its run has made.

    A candidate stands there with its typical training. All meet the same arrivals, jitter and losses, which
    are those of the scenario's seed.

    Args:
        scenario: its fleet.
        candidates: at least one.
        display: shows the progress; by default nothing does.

    Raises:
        PlanningError: a run whose payloads are not known, or a model that cannot be loaded.
        FedsimError: the data cannot be read, for the models to be timed here, or the fleet not be simulated.
    """
    part: Any = candidates[0].typical.scenario.get("data", {})
    images = data.load(scenario.data.name, part.get("validation"))
    with tempfile.TemporaryDirectory(prefix="fedsim-plan-") as folder:
        samples = Path(folder) / "samples.safetensors"
        save_file({"images": images.x_test[:_IMAGES], "labels": images.y_test[:_IMAGES]}, samples)
        shown = display or Display(quiet=True)
        found = []
        sends = any(not candidate.local for candidate in candidates)
        software, said = transport(group_plans(scenario.fleet)) if sends else (Transport(), [])
        with shown.task("predicting settings", len(candidates), keep=False) as task:
            for candidate in candidates:
                costs = _forecast(scenario, candidate, samples, software)
                found.append(costs if candidate.local else replace(costs, notes=(*said, *costs.notes)))
                task.reach(len(found))
        return found


def _forecast(scenario: Scenario, candidate: Candidate, samples: Path, software: Transport) -> Costs:
    trained = candidate.typical
    row, server = trained.row, scenario.server
    made = material_of(trained)
    method = Method(row.method, trained.bundle, candidate.local, level=candidate.level)
    run = RunPlan(
        run=scenario.name,
        folder=samples.parent,
        methods=(method,),
        samples=samples,
        sample_count=len(made.labels),
        devices=(),
        workers=server.workers,
        batch_size=server.batch.size,
        batch_wait_ms=server.batch.wait_ms,
        cells=cells_of(scenario.fleet),
        seed=scenario.seed,
        groups=group_plans(scenario.fleet),
        server=None if server.device is None else find_device(server.device),
        duration_s=scenario.duration_s,
    )
    try:
        here = stages.measured(run.methods, samples, server.batch.size)
    except BundleError as error:
        raise PlanningError(f"{candidate.name}: {error}") from error
    told = forecast(run, method, here[method.name], [made] * len(run.groups), software)
    cost = ModelCost(
        bottleneck=row.bottleneck,
        learned=row.learned,
        head_macs=row.head_macs,
        head_parameters=row.head_parameters,
        tail_macs=row.tail_macs,
        tail_parameters=row.tail_parameters,
    )
    found = summarise(told.records, scenario.resolved(), scenario.seed, {row.method: cost}, [row.method], 0.0)
    return costs_of(found.rows[0], told.notes)


def costs_of(row: Row, notes: Sequence[str] = ()) -> Costs:
    """The costs that a row of a summary tells."""
    latency = row.response_ms or row.latency_ms.get("total")
    wire = 0.0 if row.bottleneck is None else None
    if row.wire_bytes is not None:
        wire = row.wire_bytes.mean
    causes = {cause: None if row.energy is None else getattr(row.energy, f"{cause}_j") for cause in _CAUSES}
    return Costs(
        latency_p50_ms=None if latency is None else latency.p50,
        latency_p95_ms=None if latency is None else latency.p95,
        wire_bytes=wire,
        joules=None if row.energy is None else row.energy.incremental_j,
        energy={cause: joules for cause, joules in causes.items() if joules is not None},
        failed=row.outcomes.failed / row.samples,
        notes=tuple(notes),
    )


def summarised(scenario: Scenario, candidate: Candidate) -> Costs | None:
    """The costs that the runs of a candidate have found, if all were of this fleet in virtual time."""
    asked = _fleet_of(scenario.resolved())
    if not all(_was_of(asked, one) for one in candidate.trained):
        return None
    return _mean([costs_of(one.row) for one in candidate.trained])


def _was_of(asked: str, one: Trained) -> bool:
    return one.scenario.get("engine") == "virtual" and _fleet_of(one.scenario) == asked


def _fleet_of(document: Mapping[str, Any]) -> str:
    """A text that two resolved scenarios share if their fleets and servers are the same."""
    kept = {key: value for key, value in document.items() if key not in _NOT_OF_THE_FLEET}
    return json.dumps(_without_nothing(kept), sort_keys=True)


def _without_nothing(value: Any) -> Any:
    """Without keys that have no value: an older version may not have had them."""
    if isinstance(value, Mapping):
        return {key: _without_nothing(one) for key, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list | tuple) else value


def _mean(found: Sequence[Costs]) -> Costs:
    """Over seeds; not known where one of them is not."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if len(known) == len(values) else None

    causes = {cause: mean([one.energy.get(cause) for one in found]) for cause in _CAUSES}
    return Costs(
        latency_p50_ms=mean([one.latency_p50_ms for one in found]),
        latency_p95_ms=mean([one.latency_p95_ms for one in found]),
        wire_bytes=mean([one.wire_bytes for one in found]),
        joules=mean([one.joules for one in found]),
        energy={cause: joules for cause, joules in causes.items() if joules is not None},
        failed=math.fsum(one.failed for one in found) / len(found),
        notes=tuple(dict.fromkeys(note for one in found for note in one.notes)),
    )
