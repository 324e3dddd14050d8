"""The command line: ``fedsim run``, ``sweep``, ``compare``, ``plan``, ``list``, ``doctor``, ``calibrate``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedsim import __version__
from fedsim.errors import FedsimError
from fedsim.names import Kind, footnote, titles
from fedsim.plugins import importable

if TYPE_CHECKING:
    from fedsim.scenario import FederatedScenario, Scenario

__all__ = ["app", "main"]

_WIDTH = 140  # columns of what is written to a file or a pipe

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


@app.command()
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
    with _reported(), importable(file):
        from fedsim.scenario import load  # noqa: PLC0415  (torch and all that trains; --help shall be instant)

        scenario = load(file, overrides or (), seed)

        from fedsim.runner import run as run_scenario  # noqa: PLC0415

        folder = run_scenario(scenario, out, force, _console(quiet), quiet=quiet)
        if quiet:
            typer.echo(folder)
        else:
            files = sorted(path.name for path in folder.iterdir() if path.is_file())
            typer.echo(f"Results in {folder}: {', '.join(files)}")


@app.command()
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
    with _reported(), importable(*files):
        from fedsim.errors import OutputError, SweepError  # noqa: PLC0415
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
                    _console(quiet),
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
    from fedsim.errors import Problem, ScenarioError  # noqa: PLC0415
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


@app.command()
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
    with _reported():
        from fedsim import compare as comparing  # noqa: PLC0415

        allowed = comparing.Tolerance.parse(tolerance or ())
        if plot is not None:
            comparing.check_plot(plot)
        comparison = comparing.compare(simulated, measured)
        comparing.print_comparison(comparison, _console(quiet))
        if json_file is not None:
            comparing.write_json(comparison, json_file, allowed.misses(comparison))
        if plot is not None:
            comparing.write_plot(comparison, plot)
        allowed.check(comparison)


@app.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the same as a list of JSON objects, for programs.")
    ] = False,
) -> None:
    """Say what this machine can do: libraries, accelerators, energy meters, network emulation, containers.

    Each is tried out, in a few seconds, and nothing is left behind. The exit code is 0 whatever is found.
    """
    with _reported():
        from fedsim.doctor import examine, table  # noqa: PLC0415

        findings = list(examine())
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        else:
            _console().print(table(findings))


@app.command()
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
    with _reported(), importable():
        from fedsim.calibration import calibrate as measure  # noqa: PLC0415  (torch)
        from fedsim.calibration import table  # noqa: PLC0415
        from fedsim.progress import Display  # noqa: PLC0415

        file = out or Path(f"{name or 'calibrated'}.toml")
        console = _console(quiet)
        console.print(f"Measuring with {threads} thread{'s' * (threads > 1)}; keep the machine to itself.")
        device = measure(
            file,
            bundles or (),
            samples=samples,
            seconds=seconds,
            threads=threads,
            transport=transport,
            title=name,
            force=force,
            display=Display(console, quiet=quiet),
        )
        console.print(table(device))
        if device.description and not quiet:
            typer.echo(f"\n{device.description}")
        typer.echo(file if quiet else f"\nDevice file: {file}")


@app.command()
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
    with _reported(), importable(file):
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
        console = _console()
        with Display(console).live() as display:
            predictor = partial(predicted, display=display)
            found = make_plan(scenario, folders, goal, predictor, without=without or ())
        print_plan(found, console)
        if as_json is not None:
            from fedsim.planning.document import write  # noqa: PLC0415

            write(found, as_json)
        if plot is not None:
            from fedsim.planning.plot import plot_plan  # noqa: PLC0415  (matplotlib)

            plot_plan(found, plot)
        if found.answer.recommended is None:
            raise typer.Exit(1)


@app.command("list")
def list_names(kind: Annotated[Kind, typer.Argument(help="What to list.", metavar="KIND")]) -> None:
    """List the names that a scenario can use, each with what it is.

    KIND is one of bottlenecks, backbones, datasets, recipes, engines, methods, partitions, devices, radios,
    links.
    """
    with _reported():
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for name, title in titles(kind).items():
            table.add_row(name, title)
        _console().print(table)
        if note := footnote(kind):
            typer.echo(f"\n{note}")


def _console(quiet: bool = False) -> Console:
    """Standard output; where it is no terminal, wide enough for every table."""
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


@contextmanager
def _reported() -> Iterator[None]:
    """End with a message and an exit code where a user can do something about what went wrong.

    SIGTERM ends the command as an interruption does: what it started is stopped, what it left removed.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except FedsimError as error:
        typer.echo(f"fedsim: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        typer.echo("fedsim: interrupted", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # whoever asks again shall not cut the clearing up short
    raise SystemExit(128 + number)


def main() -> None:
    """The console script ``fedsim``."""
    sys.exit(app())


if __name__ == "__main__":
    main()
