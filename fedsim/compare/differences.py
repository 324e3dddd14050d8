"""What is to be known of two runs before their figures are held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from edge.meter import Provenance
from fedsim.compare.folder import RunFolder
from fedsim.errors import Problem

__all__ = ["grouped", "kinds", "one_sided", "scenario_differences"]

#: Keys of a scenario that differ by intent, or that other notes speak of.
_IGNORED = {"baselines", "engine", "name", "seed", "seeds", "sweep"}
_MOST = 8  # differences that are listed


def scenario_differences(simulated: RunFolder, measured: RunFolder) -> Iterator[str]:
    """In what the runs were not asked for the same thing: seed, keys of the scenario, data, files."""
    mine, theirs = simulated.summary, measured.summary
    if mine.seed != theirs.seed:
        yield f"seed is {mine.seed} in the simulated run and {theirs.seed} in the measured one"
    ours, others = dict(_flat(mine.scenario)), dict(_flat(theirs.scenario))
    keys = [key for key in dict.fromkeys([*ours, *others]) if ours.get(key) != others.get(key)]
    keys.sort(
        key=lambda key: key.startswith("training.")
    )  # what a network was trained by is seen in its bytes
    for key in islice(keys, _MOST):
        there, here = _shown(ours, key), _shown(others, key)
        yield f"{key} is {there} in the simulated run and {here} in the measured one"
    if len(keys) > _MOST:
        yield f"{len(keys) - _MOST} more keys of the scenarios differ"
    for what in sorted(mine.inputs.keys() & theirs.inputs.keys()):
        if mine.inputs[what] != theirs.inputs[what]:
            yield f"{what} is not the same in both runs: its SHA-256 differs"


def one_sided(simulated: RunFolder, measured: RunFolder) -> Iterator[str]:
    """What is in one of the runs only, or in both and is not compared."""
    for run, other, where in ((simulated, measured, "simulated"), (measured, simulated, "measured")):
        if alone := [method for method in run.methods if method not in other.methods]:
            yield f"in the {where} run only: {', '.join(alone)}"
    if simulated.summary.federation is not None and measured.summary.federation is not None:
        yield "rounds of the federations are not compared"


def kinds(simulated: Provenance, measured: Provenance) -> Iterator[str]:
    """Where the runs are not what their places say, by the provenance of their latencies."""
    if simulated == measured:
        yield f"latencies of both runs are {measured}: nothing is predicted and then measured here"
    elif simulated == "measured":
        yield "latencies of the first run are measured, of the second not: are they the wrong way round?"


def grouped(notes: Mapping[str, list[str]], methods: int) -> Iterator[str]:
    """Each note once, behind the methods that it is about.

    Args:
        notes: methods by note.
        methods: how many there are in all.
    """
    for note, about in notes.items():
        yield f"{'all methods' if len(about) == methods > 1 else ', '.join(about)}: {note}"


def _flat(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a plain value, dotted. What is null is as good as absent."""
    if isinstance(value, Mapping):
        items = [(key, one) for key, one in value.items() if above or key not in _IGNORED]
    elif isinstance(value, list):
        items = [(str(number), one) for number, one in enumerate(value)]
    else:
        if value is not None:
            yield above, value
        return
    for key, one in items:
        yield from _flat(one, f"{above}.{key}" if above else key)


def _shown(values: Mapping[str, Any], key: str) -> str:
    return Problem.shown(values[key]) if key in values else "not there"
