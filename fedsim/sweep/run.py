"""Carries a sweep out: every point at every seed, then what they say together."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fedsim import data
from fedsim.errors import Problem, RunExistsError, ScenarioError, SweepError
from fedsim.inputs import inputs_of
from fedsim.measure import tradeoff
from fedsim.measure.schema import Row, Summary
from fedsim.pretrained import find_weights
from fedsim.progress import Display
from fedsim.run_folder import SUMMARY
from fedsim.scenario import LOCAL, Scenario
from fedsim.scenario_checks import fleet_problem
from fedsim.scenario_problems import unknown
from fedsim.sweep.collect import families_of, points_of
from fedsim.sweep.folder import SweepFolder, sweep_folder
from fedsim.sweep.pool import Entry, Pool
from fedsim.sweep.relay import Bars
from fedsim.sweep.units import Unit, state_of, teacher_of, units
from fedsim.sweep.worker import Job

__all__ = ["sweep"]

_LISTED = 5  # points that a message names


@dataclass(frozen=True)
class _Work:
    """The units of a sweep, by what is to be done with them."""

    finished: list[Unit]
    open: list[Unit]  #: not made yet, or made for another scenario and to be replaced
    replaced: bool


def sweep(
    scenario: Scenario,
    out: Path | None,
    console: Console,
    *,
    seeds: Sequence[int],
    jobs: int,
    force: bool = False,
    quiet: bool = False,
    anchor: str | None = None,
) -> Path:
    """Make every point of a scenario's sweep at every seed, but for what is made already, and compare them.

    Args:
        scenario: from :func:`fedsim.scenario.load`.
        out: the sweep's folder (:class:`SweepFolder`); ``sweeps/<name>`` by default.
        console: where progress and results are printed.
        seeds: each makes all points once.
        jobs: worker processes, of one thread each.
        force: replace points that were made for another scenario.
        quiet: print nothing.
        anchor: family that the others are compared with.

    Returns:
        the folder.

    Raises:
        RunExistsError: points were made for another scenario and ``force`` is not set.
        SweepError: points failed. Those that did not are made, and compared, all the same.
        FedsimError: it cannot begin.
    """
    out = Path("sweeps") / scenario.name if out is None else out
    for weights in {point.model.weights for _, point in scenario.points()}:
        if weights is not None:
            find_weights(weights)
    dataset = data.load(scenario.data.name, scenario.data.validation)
    if problem := fleet_problem(scenario, len(dataset.x_test)):
        raise ScenarioError(scenario.name, [problem])
    if anchor is not None:
        _check_anchor(anchor, scenario, units(scenario, seeds, out))
    with sweep_folder(out, scenario.model_copy(update={"seeds": tuple(seeds)})) as folder:
        all_units = units(scenario, seeds, folder.path)
        families = families_of(all_units)
        points = [unit.scenario for unit in all_units if unit.setting is not None]
        inputs = inputs_of(dataset, [unit.scenario for unit in all_units], points)
        work = _sorted(all_units, inputs, force)
        display = Display(console, quiet=quiet)
        failures: dict[str, str] = {}
        if work.open:
            entries = _entries(work, folder)
            failures = _made(work, entries, Pool(jobs, folder.logs), display)
        finished = [unit for unit in all_units if unit.name not in failures]
        if anchor not in {families[unit.name] for unit in finished}:
            anchor = None  # all its points failed, and that is told
        _conclude(finished, families, folder, anchor, console, quiet)
        for remark in _remarks(scenario, folder, seeds):
            console.print(f"Note: {remark}.", markup=False)
        if failures:
            lines = [f"  {name}: {why}" for name, why in failures.items()]
            many = f"{len(failures)} of {len(all_units)} points failed"
            raise SweepError("\n".join([f"{scenario.name}: {many}:", *lines]))
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return out


def _remarks(scenario: Scenario, folder: SweepFolder, seeds: Sequence[int]) -> Iterator[str]:
    """What is to be known of the comparison as a whole."""
    if scenario.data.remark:
        yield scenario.data.remark
    made = {
        int(path.parent.name.removeprefix("seed-")) for path in folder.path.glob(f"points/*/seed-*/{SUMMARY}")
    }
    if others := sorted(made - set(seeds)):
        shown = ", ".join(map(str, others))
        yield f"the folder holds points of other seeds, too, which were not asked for: {shown}"


def _check_anchor(anchor: str, scenario: Scenario, all_units: Sequence[Unit]) -> None:
    known = sorted(set(families_of(all_units).values()) - {LOCAL})
    if anchor not in known:
        message = unknown("family", anchor, known)
        raise ScenarioError(scenario.name, [Problem("--anchor", message, Problem.shown(anchor))])


def _sorted(all_units: Sequence[Unit], inputs: Mapping[str, str], force: bool) -> _Work:
    found = [(unit, *state_of(unit, inputs)) for unit in all_units]
    changed = [(unit, why) for unit, state, why in found if state == "changed"]
    if changed and not force:
        lines = [f"  {unit.name}: {'; '.join(why)}" for unit, why in changed[:_LISTED]]
        lines += [f"  and {len(changed) - _LISTED} more"] if len(changed) > _LISTED else []
        many = f"{len(changed)} points were made for another scenario"
        message = f"{many}; replace them with --force, or name another folder with --out:"
        raise RunExistsError("\n".join([message, *lines]))
    return _Work(
        finished=[unit for unit, state, _ in found if state == "finished"],
        open=[unit for unit, state, _ in found if state != "finished"],
        replaced=bool(changed),
    )


def _entries(work: _Work, folder: SweepFolder) -> list[Entry]:
    """A job for each teacher that an open unit needs, then one for each unit."""
    teachers: dict[str, str] = {}
    entries = []
    for unit in work.open:
        if (key := teacher_of(unit)) not in teachers:
            section = unit.scenario.model
            teachers[key] = f"{section.backbone}, seed {unit.seed} ({len(teachers)})"
            digest = hashlib.sha256(key.encode()).hexdigest()  # the same when fewer units are open
            job = _job("teacher", unit, folder, f"teacher-{digest[:16]}", force=False)
            entries.append(Entry(teachers[key], job))
    for unit in work.open:
        job = _job("unit", unit, folder, f"{unit.label}-{unit.seed}", force=work.replaced)
        entries.append(Entry(unit.name, job, needs=teachers[teacher_of(unit)]))
    return entries


def _job(kind: Any, unit: Unit, folder: SweepFolder, checkpoints: str, *, force: bool) -> Job:
    return Job(
        kind=kind,
        scenario=unit.scenario.resolved(),
        setting=None if unit.setting is None else dict(unit.setting),
        folder=str(unit.folder),
        force=force,
        checkpoints=str(folder.checkpoints / checkpoints),
        teachers=str(folder.teachers),
    )


def _made(work: _Work, entries: Sequence[Entry], pool: Pool, display: Display) -> dict[str, str]:
    """Make the open units; why those failed that did, by their names."""
    by_name = {unit.name: unit for unit in work.open}
    bars = Bars(display)
    total = len(work.open) + len(work.finished)
    with display.live(), display.task("points of the sweep", total, lines=False) as overall:
        count = len(work.finished)
        overall.reach(count)
        if count:
            display.console.print(f"{count}/{total} points are made already")

        def listen(entry: Entry, message: dict[str, Any]) -> None:
            nonlocal count
            unit = by_name.get(entry.name)
            if message["event"] not in {"done", "failed"}:
                bars.show(entry.name, message, f", seed {entry.job.scenario['seed']}")
                return
            bars.clear(entry.name)
            if unit is None:
                return
            count += 1
            overall.reach(count)
            failed = message["event"] == "failed"
            said = f"failed: {message['message'].splitlines()[0]}" if failed else _result(unit)
            display.console.print(f"{count}/{total}  {entry.name}: {said}", markup=False)

        failures = pool.run(entries, listen)
    return {name: why for name, why in failures.items() if name in by_name}


def _result(unit: Unit) -> str:
    """What a unit came to, in a few words."""
    return "; ".join(_figures(row) for row in Summary.read(unit.folder / SUMMARY).rows)


def _figures(row: Row) -> str:
    level = "" if row.level is None else f"level {row.level}: "
    accuracy = "unlabelled" if row.accuracy is None else f"{100 * row.accuracy:.1f} %"
    size = "" if row.payload_bytes is None else f" at {row.payload_bytes.mean:.1f} B"
    return f"{level}{accuracy}{size}"


def _conclude(
    finished: Sequence[Unit],
    families: Mapping[str, str],
    folder: SweepFolder,
    anchor: str | None,
    console: Console,
    quiet: bool,
) -> None:
    """The trade-off as files and tables, and what is to be known of the models."""
    if not (points := points_of(finished, families)):
        return
    found = tradeoff.analyse(points, anchor)
    tradeoff.write(found, folder.path)
    if quiet:
        return
    tradeoff.print_tradeoff(found, console)
    for unit in finished:
        summary = Summary.read(unit.folder / SUMMARY)
        for remark in (*(remark for row in summary.rows for remark in row.remarks), *summary.remarks):
            console.print(f"Note: seed {unit.seed}: {remark}.", markup=False)
