"""``fedsim list``: the names that a scenario can use."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fedsim.cli.reporting import console, reported
from fedsim.names import Kind, footnote, titles

__all__ = ["list_names"]


def list_names(kind: Annotated[Kind, typer.Argument(help="What to list.", metavar="KIND")]) -> None:
    """List the names that a scenario can use, each with what it is.

    KIND is one of bottlenecks, backbones, datasets, recipes, engines, methods, partitions, devices, radios,
    links.
    """
    with reported():
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for name, title in titles(kind).items():
            table.add_row(name, title)
        console().print(table)
        if note := footnote(kind):
            typer.echo(f"\n{note}")
