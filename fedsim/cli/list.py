"""``fedsim list``: the names that a scenario can use, and the numbers behind a device, radio or link."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fedsim.cli.reporting import console, reported
from fedsim.names import PRESETS, Kind, footnote, sheet, titles

__all__ = ["list_names"]


def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.", metavar="KIND")],
    name: Annotated[
        str | None,
        typer.Argument(
            help="Of a device, radio or link, or the path of a .toml file.",
            metavar="[NAME]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the names that a scenario can use, each with what it is.

    KIND is one of bottlenecks, backbones, datasets, recipes, engines, methods,
    partitions, arrivals, availability, devices, radios, links.

    With the NAME of a device, radio or link, or the path of a .toml file, show
    every number of it: its range, how it was obtained, how far it is to be
    trusted, whether it was verified, and where in which source it stands.
    """
    with reported():
        if name is None:
            _print_names(kind)
        elif kind in PRESETS:
            console().print(sheet(kind, name))
        else:
            message = f"only devices, radios and links can be shown by name, not {kind}"
            raise typer.BadParameter(message, param_hint="NAME")


def _print_names(kind: Kind) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, title in titles(kind).items():
        table.add_row(name, title)
    console().print(table)
    if note := footnote(kind):
        typer.echo(f"\n{note}")
