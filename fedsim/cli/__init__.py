"""The command line: ``fedsim run``, ``sweep``, ``compare``, ``plan``, ``list``, ``doctor`` and others.

Each command has a module. What is slow to import it imports when it runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fedsim import __version__
from fedsim.cli import calibrate, compare, doctor, monitor, plan, run, sweep
from fedsim.cli import list as listing

__all__ = ["app", "main"]

app = typer.Typer(
    name="fedsim",
    help="What it costs to run a neural network split between small devices and a server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedsim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# In the order in which --help shows them.
app.command()(run.run)
app.command()(sweep.sweep)
app.command()(compare.compare)
app.command()(doctor.doctor)
app.command()(calibrate.calibrate)
app.command()(plan.plan)
app.command("list")(listing.list_names)
app.command()(monitor.monitor)


def main() -> None:
    """The console script ``fedsim``."""
    sys.exit(app())
