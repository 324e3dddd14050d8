"""``fedsim calibrate``: this machine as a device file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli.reporting import console, reported
from fedsim.plugins import importable

__all__ = ["calibrate"]


def calibrate(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Models to measure: bundles, or run folders that have some.",
            metavar="[BUNDLE]...",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Device file, *.toml.", show_default="NAME.toml", metavar="FILE")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What to call the device.", show_default="calibrated, and its processor"),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Images for the models (safetensors).", show_default="random ones", metavar="FILE"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="About how long to measure.", show_default="20, and 10 for each model"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads that torch computes with.")] = 1,
    transport: Annotated[
        bool, typer.Option("--transport", help="Measure gRPC, too, with a server process on loopback.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the file's name and nothing else.")] = False,
) -> None:
    """Measure this machine and write it as a device file, for fedsim to predict with.

    Measured are its rates of computing and of memory, its entropy coder, the stages of each model given, and
    its powers where it has an energy meter. It computes with one thread, as devices and servers of fedsim do,
    if --threads says nothing else.

    Exit codes: 0 done, 2 something cannot be measured or the arguments are wrong, 130 interrupted,
    143 terminated (SIGTERM).
    """
    with reported(), importable():
        from fedsim.calibration import calibrate as measure  # noqa: PLC0415  (torch)
        from fedsim.calibration import table  # noqa: PLC0415
        from fedsim.progress import Display  # noqa: PLC0415

        file = out or Path(f"{name or 'calibrated'}.toml")
        output = console(quiet)
        output.print(f"Measuring with {threads} thread{'s' * (threads > 1)}; keep the machine to itself.")
        device = measure(
            file,
            bundles or (),
            samples=samples,
            seconds=seconds,
            threads=threads,
            transport=transport,
            title=name,
            force=force,
            display=Display(output, quiet=quiet),
        )
        output.print(table(device))
        if device.description and not quiet:
            typer.echo(f"\n{device.description}")
        typer.echo(file if quiet else f"\nDevice file: {file}")
