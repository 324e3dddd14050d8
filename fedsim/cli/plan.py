"""``fedsim plan``: the setting that meets a goal."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli.reporting import console, reported
from fedsim.plugins import importable

__all__ = ["plan"]


def plan(
    file: Annotated[
        Path, typer.Argument(help="Scenario file (YAML): the devices, links and server.", metavar="SCENARIO")
    ],
    *,
    folders: Annotated[
        list[Path],
        typer.Option(
            "--from", metavar="RUN", help="Run folder or sweep folder with trained results. Repeatable."
        ),
    ],
    accuracy: Annotated[
        float | None, typer.Option(metavar="A", help="At least, from 0 to 1.", show_default=False)
    ] = None,
    payload_bytes: Annotated[
        float | None,
        typer.Option("--bytes", metavar="B", help="Payload, mean: at most.", show_default=False),
    ] = None,
    wire_bytes: Annotated[
        float | None,
        typer.Option(metavar="B", help="The same with all that the link carries.", show_default=False),
    ] = None,
    joules: Annotated[
        float | None,
        typer.Option(metavar="J", help="Of the device for a sample: at most.", show_default=False),
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(metavar="L", help="At most.", show_default=False)
    ] = None,
    latency_of: Annotated[
        str, typer.Option(metavar="p50|p95", help="How many per cent of the samples take no longer.")
    ] = "p95",
    minimise: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What decides between those that meet the goal: error, joules, latency, bytes, wire-bytes.",
            show_default="the first of error, joules, latency, bytes that has no bound",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A setting not to choose, such as local. Repeatable."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all settings and the answer as JSON.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write accuracy against cost as a picture (PNG).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the scenario. Repeatable."),
    ] = None,
) -> None:
    """Say which split point, bottleneck and rate to use on the devices and links of a SCENARIO.

    Trained results are searched for a goal: what has a bound has to keep to it, and of those that do the one
    that is least in --minimise is recommended. Shown are the Pareto front of what the goal is about, the
    recommendation and how to run it, or what stands in the way.

    Exit codes: 0 a setting meets the goal, 1 none does, 2 the scenario, folders or arguments are wrong.
    """
    with reported(), importable(file):
        from fedsim.planning.goal import asked  # noqa: PLC0415  (torch)

        goal = asked(
            accuracy=accuracy,
            joules=joules,
            latency_ms=latency_ms,
            payload_bytes=payload_bytes,
            wire_bytes=wire_bytes,
            minimise=minimise,
            percentile=latency_of,
        )
        from fedsim.planning.plan import fleet_of, make_plan  # noqa: PLC0415
        from fedsim.planning.prediction import predicted  # noqa: PLC0415
        from fedsim.planning.table import print_plan  # noqa: PLC0415
        from fedsim.progress import Display  # noqa: PLC0415

        scenario = fleet_of(file, overrides or ())
        output = console()
        with Display(output).live() as display:
            predictor = partial(predicted, display=display)
            found = make_plan(scenario, folders, goal, predictor, without=without or ())
        print_plan(found, output)
        if as_json is not None:
            from fedsim.planning.document import write  # noqa: PLC0415

            write(found, as_json)
        if plot is not None:
            from fedsim.planning.plot import plot_plan  # noqa: PLC0415  (matplotlib)

            plot_plan(found, plot)
        if found.answer.recommended is None:
            raise typer.Exit(1)
