"""``fedsim doctor``: what this machine can do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from fedsim.cli.reporting import console, reported

__all__ = ["doctor"]


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the same as a list of JSON objects, for programs.")
    ] = False,
) -> None:
    """Say what this machine can do: libraries, accelerators, energy meters, network emulation, containers.

    Each is tried out, in a few seconds, and nothing is left behind. The exit code is 0 whatever is found.
    """
    with reported():
        from fedsim.doctor import examine, table  # noqa: PLC0415

        findings = list(examine())
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            console().print(table(findings))
