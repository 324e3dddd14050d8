"""What there is to choose from: trained results of run folders and sweep folders, seeds together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from edge import bundle
from fedsim.errors import Problem
from fedsim.measure.schema import Row, Summary
from fedsim.measure.statistics import t_interval, wilson_interval
from fedsim.planning.errors import PlanningError
from fedsim.run_folder import SUMMARY

__all__ = ["Candidate", "Trained", "read"]

#: Sections of a run's scenario in which all trainings of one candidate agree, beside the seed.
_OF_THE_TRAINING = ("data", "training")


@dataclass(frozen=True)
class Trained:
    """What one training came to: a row of a run, and the bundle that it is of."""

    run: Path  #: its run folder
    bundle: Path
    seed: int
    scenario: Mapping[str, Any]  #: of the run, resolved
    data_digest: str | None  #: of the data set; None where it was not recorded
    row: Row

    @property
    def ended_well(self) -> int:
        """Samples that were answered, by the server or on the device."""
        return self.row.samples - self.row.outcomes.failed

    @property
    def right(self) -> int:
        """Samples that were told rightly."""
        return round((self.row.accuracy or 0.0) * self.row.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the accuracy: Wilson's, of as many samples as the data set has, however often they came.

        Where some failed it is of those that ended well, and of a sample that came again each time counts.
        """
        told = self.row.accuracy_interval
        if told is not None and not self.row.outcomes.failed:
            return told
        return wilson_interval(self.right, self.ended_well)

    @property
    def accuracy(self) -> float:
        """Of the samples that ended well, 0..1: what the fleet of that run lost is not the model's fault."""
        return self.right / self.ended_well

    @property
    def share(self) -> Fraction:
        """The same, exact: a mean of it may be just what a goal asks for."""
        return Fraction(self.right, self.ended_well)


@dataclass(frozen=True)
class Candidate:
    """A split point, a bottleneck and a rate, trained from one or several seeds.

    Figures are means over the seeds.
    """

    name: str  #: of its row; where two have the same, with the run folder
    spec: bundle.ModelSpec
    level: int | None  #: at which samples are encoded, of a bottleneck that has several
    trained: tuple[Trained, ...]  #: by seed

    @property
    def local(self) -> bool:
        """Whether the whole network runs on the device, so that nothing is sent."""
        return self.spec.bottleneck is None

    @cached_property
    def accuracy(self) -> float:
        """Of the samples that ended well, 0..1."""
        return float(sum(one.share for one in self.trained) / len(self.trained))

    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 %: Student's t over seeds; with one seed Wilson's, of the test set."""
        over_seeds = t_interval([one.accuracy for one in self.trained])
        low, high = over_seeds or self.trained[0].interval
        return max(0.0, low), min(1.0, high)

    @cached_property
    def payload_bytes(self) -> float | None:
        """What the coder puts out, a sample; 0 of a local network; None where a run does not know."""
        if self.local:
            return 0.0
        sizes = [one.row.payload_bytes for one in self.trained]
        known = [size.mean for size in sizes if size is not None]
        return _mean(known) if len(known) == len(sizes) else None

    @cached_property
    def typical(self) -> Trained:
        """The training whose accuracy is nearest to the mean; of two, that of the lower seed."""
        return min(self.trained, key=lambda one: (abs(one.accuracy - self.accuracy), one.seed))

    @property
    def notes(self) -> Iterator[str]:
        """What is to be known of its accuracy, in sentences."""
        for one in self.trained:
            yield from one.row.remarks
            if not self.local and (told := one.row.outcomes.local):
                many = f"{told} of {one.row.samples} samples"
                yield f"{self.name}, seed {one.seed}: {many} were answered on the device, by another network"


def read(folders: Sequence[Path]) -> tuple[list[Candidate], list[str]]:
    """The candidates of some folders, and what is to be known of what was left out.

    Rows of one name whose models are the same but for the seed are one candidate.

    Args:
        folders: run folders (of ``fedsim run``) and sweep folders (of ``fedsim sweep``).

    Raises:
        PlanningError: a folder that holds no finished run, a bundle that is missing or damaged, a training
            that is given twice, runs on different data, or nothing to choose from.
        SummaryError: a summary that cannot be read.
    """
    groups: dict[str, list[tuple[bundle.ModelSpec, Trained]]] = {}
    notes: list[str] = []
    for spec, one in _trained(_runs(folders)):
        if one.row.accuracy is None:
            notes.append(f"{one.row.method} of {one.run} is left out: its accuracy is not known")
        elif not one.ended_well:
            notes.append(f"{one.row.method} of {one.run} is left out: all of its samples failed")
        else:
            groups.setdefault(_identity(spec, one), []).append((spec, one))
    if not groups:
        listed = ", ".join(map(str, folders))
        raise PlanningError(
            f"--from {listed}: there is no trained result in it with an accuracy" + _of(notes)
        )
    _check_same_data([one for group in groups.values() for _, one in group])
    labels = [group[0][1].row.method for group in groups.values()]
    found = []
    for group in groups.values():
        spec, first = group[0]
        label = first.row.method
        name = label if labels.count(label) == 1 else f"{label} ({first.run})"
        trained = sorted((one for _, one in group), key=lambda one: one.seed)
        _check_seeds(label, trained)
        found.append(Candidate(name, spec, first.row.level, tuple(trained)))
    return found, notes


def _runs(folders: Sequence[Path]) -> Iterator[Path]:
    """The run folders in the order of the folders, those of a sweep by their names."""
    for folder in folders:
        if (folder / SUMMARY).is_file():
            yield folder
            continue
        points = sorted(path.parent for path in folder.glob(f"points/*/seed-*/{SUMMARY}"))
        if not points:
            what = "no such folder" if not folder.is_dir() else "holds no finished run"
            expected = f"expected a run folder ({SUMMARY}) or a sweep folder (points/LABEL/seed-S/{SUMMARY})"
            raise PlanningError(f"--from {folder}: {what}; {expected}")
        yield from points


def _trained(runs: Iterable[Path]) -> Iterator[tuple[bundle.ModelSpec, Trained]]:
    for run in runs:
        summary = Summary.read(run / SUMMARY)
        for row in summary.rows:
            folder = _bundle_of(run, row)
            try:
                spec = bundle.device_spec(folder)
            except bundle.BundleError as error:
                raise PlanningError(f"--from {run}: the model of {row.method}: {error}") from error
            yield spec, Trained(run, folder, summary.seed, summary.scenario, _digest(summary), row)


def _digest(summary: Summary) -> str | None:
    """Of the data set, as :func:`fedsim.inputs.inputs_of` records it."""
    section: Any = summary.scenario.get("data", {})
    return summary.inputs.get(f"the data set {section.get('name')!r}")


def _bundle_of(run: Path, row: Row) -> Path:
    """The folder of a row's model: of all levels of one bottleneck it is the same."""
    suffix = "" if row.level is None else f"-level{row.level}"
    names = [row.method, row.method.removesuffix(suffix)]
    return next(
        (path for name in names if (path := run / "models" / name).is_dir()), run / "models" / names[0]
    )


def _identity(spec: bundle.ModelSpec, one: Trained) -> str:
    """A text that two trainings share if nothing but the seed tells them apart."""
    sections = {key: _said(one.scenario.get(key)) for key in _OF_THE_TRAINING}
    sections["weights"] = (one.scenario.get("model") or {}).get("weights")
    return json.dumps([one.row.method, one.row.level, asdict(spec), sections], sort_keys=True)


def _said(section: Any) -> Any:
    """A section without what has no value, such as keys that an older version did not have."""
    if not isinstance(section, Mapping):
        return section
    return {key: value for key, value in section.items() if value is not None}


def _check_seeds(label: str, trained: Sequence[Trained]) -> None:
    seen: dict[int, Path] = {}
    for one in trained:
        if one.seed in seen:
            where = f"{seen[one.seed]} and {one.run}"
            raise PlanningError(f"--from: {label}, seed {one.seed}, stands in {where}; give one of the two")
        seen[one.seed] = one.run


def _check_same_data(trained: Sequence[Trained]) -> None:
    """Accuracies are compared, so they have to be of one test set.

    Raises:
        PlanningError: names two runs and what they were tested on.
    """
    first = trained[0]
    recorded = next((one for one in trained if one.data_digest is not None), first)
    for one in trained:
        if (before := _tested_on(first)) != (now := _tested_on(one)):
            raise PlanningError(
                f"--from: {first.run} was tested on {before}, and {one.run} on {now}; "
                "accuracies of different test sets cannot be compared"
            )
        if one.data_digest not in (None, recorded.data_digest):
            raise PlanningError(
                f"--from: the data of {recorded.run} and {one.run} have one name, and are not the same; "
                "accuracies of different test sets cannot be compared"
            )


def _tested_on(one: Trained) -> str:
    """In words."""
    section: Any = one.scenario.get("data", {})
    share = section.get("validation")
    part = "the test set" if share is None else f"{share:.0%} of the training set"
    return f"{part} of {Problem.shown(section.get('name'))}"


def _of(notes: Sequence[str]) -> str:
    return f" ({notes[0]})" if notes else ""


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
