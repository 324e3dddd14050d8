"""``fedsim run``: from a scenario to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli.reporting import console, reported
from fedsim.plugins import importable

__all__ = ["run"]


def run(
    file: Annotated[Path, typer.Argument(help="Scenario file (YAML).", metavar="FILE")],
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Replace a value, such as fleet.0.count=3. Repeatable."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Replace the scenario's seed.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder.", show_default="runs/NAME-SEED", metavar="DIR")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a finished run in the run folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the run folder and nothing else.")] = False,
) -> None:
    """Run the scenario in a YAML FILE and say where its results lie.

    Exit codes: 0 done, 1 the run failed, 2 the scenario, the data or the arguments are wrong,
    130 interrupted, 143 terminated (SIGTERM).
    """
    with reported(), importable(file):
        from fedsim.scenario import load  # noqa: PLC0415  (torch and all that trains; --help shall be instant)

        scenario = load(file, overrides or (), seed)

        from fedsim.runner import run as run_scenario  # noqa: PLC0415

        folder = run_scenario(scenario, out, force, console(quiet), quiet=quiet)
        if quiet:
            typer.echo(folder)
        else:
            files = sorted(path.name for path in folder.iterdir() if path.is_file())
            typer.echo(f"Results in {folder}: {', '.join(files)}")
