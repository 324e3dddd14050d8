"""``fedsim monitor``: what a run tells while it goes on, for Prometheus."""

from __future__ import annotations

import threading
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Annotated

import typer

from edge.arguments import address
from fedsim.cli.reporting import console, reported

__all__ = ["monitor"]


def _address(text: str) -> str:
    try:
        return address(text)
    except ArgumentTypeError as error:
        raise typer.BadParameter(str(error)) from error


def monitor(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder in which a run writes its events: in containers /shared.",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
        ),
    ],
    *,
    listen: Annotated[
        str, typer.Option(help="Where metrics are asked for.", metavar="HOST:PORT", parser=_address)
    ] = "127.0.0.1:9400",
    server: Annotated[
        str | None,
        typer.Option(
            help="A tail server, which is asked what it counts.", metavar="HOST:PORT", parser=_address
        ),
    ] = None,
) -> None:
    """Serve what a run has told so far, as metrics of Prometheus, until interrupted.

    Samples, bytes, latencies and accuracy by method; of a federation, rounds and accuracies; of the tail
    server, what waits there. They are read when somebody asks. Another run in FOLDER begins from zero.

    Exit codes: 2 the address cannot be listened on, or the arguments are wrong, 130 interrupted,
    143 terminated (SIGTERM).
    """
    with reported():
        from fedsim.monitoring.serve import RunMetrics, serving  # noqa: PLC0415  (--help shall be instant)

        host, _, port = listen.rpartition(":")
        with serving(RunMetrics(folder, server), host.strip("[]"), int(port)) as taken:
            console().print(f"metrics at http://{host}:{taken}/metrics")
            threading.Event().wait()
