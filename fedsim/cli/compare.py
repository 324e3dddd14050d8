"""``fedsim compare``: a prediction beside a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli.reporting import console, reported

__all__ = ["compare"]


def compare(
    simulated: Annotated[
        Path, typer.Argument(help="Run folder of the prediction.", metavar="SIMULATED", show_default=False)
    ],
    measured: Annotated[
        Path, typer.Argument(help="Run folder of the measurement.", metavar="MEASURED", show_default=False)
    ],
    *,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIGURE=PERCENT%,...",
            help="Exit with 1 where a method is further off, such as mean=5%,p95=10%. FIGURE is mean, p50 or "
            "p95 of the total latency, bytes of any sample, joules or predictions. Repeatable.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there, for programs.", metavar="FILE")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw them there (.png, .pdf or .svg).", metavar="FILE")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but what is wrong.")] = False,
) -> None:
    """Hold a prediction against a measurement: latency stage by stage, bytes, energy and predictions.

    Both are folders of fedsim run. Methods that both have are compared, and errors are shown beside the noise
    of what was measured.

    Exit codes: 0 compared, 1 not within the tolerance, 2 the folders or the arguments are wrong.
    """
    with reported():
        from fedsim import compare as comparing  # noqa: PLC0415

        allowed = comparing.Tolerance.parse(tolerance or ())
        if plot is not None:
            comparing.check_plot(plot)
        comparison = comparing.compare(simulated, measured)
        comparing.print_comparison(comparison, console(quiet))
        if json_file is not None:
            comparing.write_json(comparison, json_file, allowed.misses(comparison))
        if plot is not None:
            comparing.write_plot(comparison, plot)
        allowed.check(comparison)
