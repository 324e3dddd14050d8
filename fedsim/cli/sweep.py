"""``fedsim sweep``: every point of the sweeps in scenarios, at every seed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedsim.cli.reporting import console, reported
from fedsim.errors import FedsimError, OutputError, Problem, ScenarioError, SweepError
from fedsim.plugins import importable

if TYPE_CHECKING:
    from fedsim.scenario import FederatedScenario, Scenario

__all__ = ["sweep"]


def sweep(
    files: Annotated[list[Path], typer.Argument(help="Scenario files (YAML).", metavar="FILE...")],
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value in each file. Repeatable."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Replace the scenario's seeds.", show_default="its seeds"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes, of one thread each.", show_default="one a core"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the sweep; of several, a folder for each in it.",
            show_default="sweeps/NAME",
            metavar="DIR",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace points that were made for another scenario.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the folders and nothing else.")] = False,
    anchor: Annotated[
        str | None,
        typer.Option(metavar="FAMILY", help="What the others are compared with.", show_default="factorized"),
    ] = None,
) -> None:
    """Make every point of the sweep in each YAML FILE, at every seed, and compare them.

    What is made already is skipped, and what was interrupted or killed goes on where it was.

    Exit codes: 0 done, 1 points failed, 2 a scenario, the data or the arguments are wrong,
    130 interrupted, 143 terminated (SIGTERM).
    """
    with reported(), importable(*files):
        from fedsim.scenario import load  # noqa: PLC0415

        chosen = None if seeds is None else _seeds(seeds)
        scenarios = [_swept(file, load(file, overrides or ())) for file in files]
        if len({scenario.name for scenario in scenarios}) < len(scenarios):
            raise OutputError("two files have the same name: in them; each needs a folder of its own")

        from fedsim.sweep.run import sweep as run_sweep  # noqa: PLC0415

        failures: list[FedsimError] = []
        for scenario in scenarios:
            try:
                folder = run_sweep(
                    scenario,
                    out / scenario.name if out is not None and len(scenarios) > 1 else out,
                    console(quiet),
                    seeds=chosen or scenario.seeds or (scenario.seed,),
                    jobs=jobs or _cores(),
                    force=force,
                    quiet=quiet,
                    anchor=anchor,
                )
            except FedsimError as error:
                failures.append(error)
            else:
                typer.echo(folder if quiet else f"Results in {folder}")
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise SweepError("\n".join(map(str, failures)))


def _swept(file: Path, scenario: Scenario | FederatedScenario) -> Scenario:
    """A scenario that has a model to be swept."""
    from fedsim.scenario import Scenario  # noqa: PLC0415

    if not isinstance(scenario, Scenario):
        message = "is all that there is here, and a sweep is of a split network; use fedsim run"
        raise ScenarioError(str(file), [Problem("federation", message)])
    return scenario


def _seeds(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) < 2**32 for word in words):
        raise typer.BadParameter(f"{text!r} is no list of whole numbers, such as 1,2,3", param_hint="--seeds")
    if len(set(map(int, words))) < len(words):
        raise typer.BadParameter(f"{text!r} has a seed twice", param_hint="--seeds")
    return tuple(map(int, words))


def _cores() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
