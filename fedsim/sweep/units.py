"""The units of a sweep: one run folder for each point or baseline and seed, and what is already done of it.

::

    FOLDER/points/LABEL/seed-S      summary.json, ledger.parquet, models/, ...
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedsim.errors import Problem
from fedsim.measure.schema import Summary, SummaryError
from fedsim.run_folder import SUMMARY
from fedsim.scenario import Scenario, point_label

__all__ = ["State", "Unit", "differences", "state_of", "teacher_of", "units"]

State = Literal["finished", "changed", "open"]

#: What a baseline does not depend on: it is not trained, and has a bottleneck of its own.
_NOT_OF_BASELINES = (
    ("model", "bottleneck"),
    ("model", "levels"),
    ("training", "recipe"),
    ("training", "epochs"),
    ("training", "learning_rates"),
)
#: What decides nothing of a result.
_ASIDE = ("name", "seeds", "sweep")


@dataclass(frozen=True)
class Unit:
    """A point of the sweep, or a baseline, at one seed: what a worker makes a run folder of.

    Args:
        label: name of its row, the same for all seeds.
        scenario: with this seed, this one baseline or none, and no sweep.
        setting: what names the point; None for a baseline.
        folder: its run folder.
    """

    label: str
    scenario: Scenario
    setting: Mapping[str, Any] | None
    folder: Path

    @property
    def seed(self) -> int:
        """Of its training and its run."""
        return self.scenario.seed

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.label}, seed {self.seed}"


def units(scenario: Scenario, seeds: Sequence[int], folder: Path) -> list[Unit]:
    """All units of a sweep, seed by seed, so that the first curves are whole early."""
    base = scenario.model_copy(update={"baselines": (), "sweep": (), "seeds": ()})
    points = scenario.points()
    found = []
    for seed in seeds:
        for baseline in scenario.baselines:
            one = base.model_copy(update={"seed": seed, "baselines": (baseline,)})
            found.append(Unit(baseline.label, one, None, _folder(folder, baseline.label, seed)))
        for setting, point in points:
            label = point_label(point, setting)
            one = point.model_copy(update={"seed": seed, "baselines": (), "sweep": (), "seeds": ()})
            found.append(Unit(label, one, setting, _folder(folder, label, seed)))
    return found


def _folder(folder: Path, label: str, seed: int) -> Path:
    return folder / "points" / label / f"seed-{seed}"


def state_of(unit: Unit, inputs: Mapping[str, str] | None = None) -> tuple[State, list[str]]:
    """Whether a unit is finished as it is now asked for; and if its run was another, in what they differ.

    Args:
        unit: of the sweep.
        inputs: what decides its result beside the scenario (:func:`fedsim.inputs.inputs_of`).
    """
    path = unit.folder / SUMMARY
    if not path.is_file():
        return "open", []
    try:
        found = Summary.read(path)
    except SummaryError as error:
        return "changed", [str(error)]
    changed = differences(_identity(unit, found.scenario), _identity(unit, unit.scenario.resolved()))
    now = inputs or {}
    changed += [
        f"{what} has changed" for what, digest in found.inputs.items() if now.get(what, digest) != digest
    ]
    return ("changed", changed) if changed else ("finished", [])


def _identity(unit: Unit, document: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved scenario decides the unit's result."""
    kept: dict[str, Any] = json.loads(json.dumps({k: v for k, v in document.items() if k not in _ASIDE}))
    if unit.setting is None:
        for section, key in _NOT_OF_BASELINES:
            kept.get(section, {}).pop(key, None)
    return kept


def differences(before: Mapping[str, Any], after: Mapping[str, Any], above: str = "") -> list[str]:
    """The keys in which two documents differ, each with what it was and what it is."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{above}{key}.")
        elif old != new:
            found.append(f"{above}{key} was {Problem.shown(old)} and is now {Problem.shown(new)}")
    return found


def teacher_of(unit: Unit) -> str:
    """A text that two units share if they share the uncut network."""
    model, training = unit.scenario.model, unit.scenario.training
    settings = [
        unit.scenario.data.model_dump(),
        unit.seed,
        model.backbone,
        model.backbone_arguments,
        model.weights,
        training.teacher_epochs,
        training.teacher_learning_rate,
        training.batch_size,
        training.device,
        training.precision,
        training.threads,
    ]
    return json.dumps(settings, sort_keys=True)
