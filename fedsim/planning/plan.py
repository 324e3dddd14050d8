"""The whole of a plan: trained results, what they cost on a fleet, the answer, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.errors import Problem, ScenarioError
from fedsim.fleet import remarks
from fedsim.planning.answer import Answer, answer_to
from fedsim.planning.candidates import Candidate, read
from fedsim.planning.errors import PlanningError
from fedsim.planning.goal import Goal
from fedsim.planning.prediction import Predictor, predicted
from fedsim.planning.setting import QUANTITIES, Setting
from fedsim.scenario import Scenario, load
from fedsim.scenario_federation import is_federated_only
from fedsim.scenario_problems import unknown
from fedsim.scenario_source import SourceError
from fedsim.scenario_source import read as read_document

__all__ = ["Plan", "fleet_of", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """An answer, and what a reader has to know of it.

    Args:
        name: of the scenario whose fleet it is for.
        answer: to the goal.
        notes: in sentences, without their full stops.
    """

    name: str
    answer: Answer
    notes: tuple[str, ...]


def fleet_of(file: Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a YAML file, as the engine ``virtual`` carries it out, whatever engine it names.

    Raises:
        ScenarioError: names the file and, for everything that is wrong, key, value and what is allowed.
    """
    problem = Problem("federation", "is all that there is here, and a plan is of a split network")
    with suppress(SourceError):  # which load tells better
        if is_federated_only(read_document(file)):
            raise ScenarioError(str(file), [problem])
    found = load(file, [*overrides, "engine=virtual"])
    if not isinstance(found, Scenario):
        raise ScenarioError(str(file), [problem])
    return found


def make_plan(
    scenario: Scenario,
    folders: Sequence[Path],
    goal: Goal,
    predictor: Predictor = predicted,
    *,
    without: Sequence[str] = (),
) -> Plan:
    """Search trained results for a goal on a fleet.

    Args:
        scenario: its devices, links and server are planned for.
        folders: run folders and sweep folders with the results.
        goal: to be met.
        predictor: says what a candidate costs on the fleet.
        without: names of settings that are not to be chosen.

    Raises:
        PlanningError: a goal about what is not known, results that cannot be read or compared, or that are
            of other data than the scenario's.
        FedsimError: a candidate whose costs cannot be predicted.
    """
    candidates, left_out = read(folders)
    candidates = _chosen(candidates, without)
    _check_data(scenario, candidates)
    costs = predictor(scenario, candidates)
    settings = [Setting(*pair) for pair in zip(candidates, costs, strict=True)]
    found = answer_to(settings, goal)
    notes = [*left_out, *_notes(scenario, found)]
    return Plan(scenario.name, found, tuple(dict.fromkeys(notes)))


def _chosen(candidates: Sequence[Candidate], without: Sequence[str]) -> list[Candidate]:
    names = [one.name for one in candidates]
    for name in without:
        if name not in names:
            raise PlanningError(f"--without {name}: {unknown('setting', name, names)}")
    kept = [one for one in candidates if one.name not in without]
    if not kept:
        raise PlanningError(f"--without {', '.join(without)}: leaves nothing to choose from")
    return kept


def _check_data(scenario: Scenario, candidates: Sequence[Candidate]) -> None:
    for candidate in candidates:
        for one in candidate.trained:
            section: Any = one.scenario.get("data", {})
            if (name := section.get("name")) != scenario.data.name:
                raise PlanningError(
                    f"--from: {one.run} was tested on {name!r}, and {scenario.name} is about "
                    f"{scenario.data.name!r}; plan from results on its own data"
                )


def _notes(scenario: Scenario, found: Answer) -> Iterator[str]:
    chosen = found.recommended or found.nearest
    if found.recommended is not None:
        yield from _notes_on_choice(found.recommended, found)
    if chosen is not None:
        yield from _notes_on_accuracy(scenario, chosen)
        yield from chosen.costs.notes
    if unknown := [one.name for one in found.settings if not _known(one, found.goal)]:
        yield f"not all figures that the goal is about are known of {', '.join(unknown)}: not on the front"
    yield from remarks(scenario.fleet, scenario.server)


def _notes_on_choice(chosen: Setting, found: Answer) -> Iterator[str]:
    """What the choice is worth."""
    if any(one.scenario.get("data", {}).get("validation") is None for one in chosen.candidate.trained):
        yield (
            f"{chosen.name} was chosen by its accuracy on the test set, which is optimistic of the best of "
            f"{len(found.settings)}; to choose by other samples than those that tell the accuracy, make the "
            "results with data.validation (such as --set data.validation=0.2)"
        )
    least = found.goal.bounds.get("error")
    low, high = chosen.accuracy_interval
    if least is not None and 1 - low > least:
        surest = found.surest
        instead = "no setting that meets the goal is above it with its whole interval"
        if surest is not None:
            instead = f"{surest.name} is above it with its whole interval"
        yield (
            f"the mean of {chosen.name} meets the accuracy asked for, and its 95 % interval, "
            f"{_interval(low, high)}, reaches below it; {instead}"
        )
    if len(chosen.candidate.trained) == 1:
        yield (
            f"{chosen.name} was trained from one seed; how much training differs from seed to seed is not in "
            "its interval"
        )


def _notes_on_accuracy(scenario: Scenario, chosen: Setting) -> Iterator[str]:
    """How the accuracy was found, where that was not on this fleet."""
    yield from chosen.candidate.notes
    if chosen.costs.failed:
        yield (
            f"{chosen.costs.failed:.2%} of the samples of {chosen.name} have no answer within their deadline "
            "on this fleet, and count as wrong"
        )
    lost = sum(group.count * group.erasure for group in scenario.fleet) / scenario.devices
    then = {one.row.erasure or 0.0 for one in chosen.candidate.trained}
    if not chosen.candidate.local and then != {lost}:
        found_with = ", ".join(f"{share:g}" for share in sorted(then))
        yield (
            f"the accuracy of {chosen.name} was found with a probability of {found_with} that a packet is "
            f"lost, and on this fleet it is {lost:g}"
        )


def _known(one: Setting, goal: Goal) -> bool:
    return all(QUANTITIES[name].read(one) is not None for name in goal.objectives)


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f} %"
