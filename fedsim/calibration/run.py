"""Measures this machine and writes what it is as a device file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge.energy import Meter
from fedsim import __version__
from fedsim.calibration import coder, describe, splits
from fedsim.calibration.file import to_toml
from fedsim.calibration.ladder import Ladder
from fedsim.calibration.power import Watts, measure_power, meters_here
from fedsim.calibration.reading import SOURCE
from fedsim.calibration.splits import Stages
from fedsim.calibration.timing import Run, Timing, measure
from fedsim.calibration.transport import sends
from fedsim.errors import HardwareError, OutputError
from fedsim.hardware import Device, find_device
from fedsim.measure import environment
from fedsim.measure.files import replacing
from fedsim.progress import Display
from fedsim.threads import torch_threads

__all__ = ["EACH_S", "HOST_S", "calibrate"]

#: How long a calibration takes if nothing else is asked for: without models, and more for each.
HOST_S, EACH_S = 20.0, 10.0
_POWER = 0.3  # part of the time that goes to the meters, where there are any
_MOST_POWER_S = 16.0
_STEPS = 1000  # of the progress bar

#: To whom a subject belongs, what it is, and its size.
Key = tuple[str, str, int]
_MODEL = "model "


def calibrate(
    out: Path,
    bundles: Sequence[Path] = (),
    *,
    samples: Path | None = None,
    seconds: float | None = None,
    threads: int = 1,
    transport: bool = False,
    title: str | None = None,
    meters: Sequence[Meter] | None = None,
    force: bool = False,
    display: Display | None = None,
) -> Device:
    """Measure this machine and write a device file.

    How times are taken, and what they are not, stands in :mod:`fedsim.calibration.timing`.

    Args:
        out: the file, ``*.toml``.
        bundles: models to measure, or run folders of them.
        samples: file of images for them; random ones otherwise.
        seconds: about how long to measure; by default :data:`HOST_S`, and :data:`EACH_S` for each model.
        threads: of torch. One is what ``edge.device`` and ``edge.server`` take if nothing else is said.
        transport: whether to measure gRPC, too, which takes some seconds more, and a server process.
        title: of the device; the processor by default.
        meters: of the machine's energy; by default those that are found.
        force: replace a file that is there.
        display: for progress; silent by default.

    Returns:
        The device, as it is read from the file.

    Raises:
        OutputError: ``out`` is no ``.toml`` file, is there already, or cannot be written.
        HardwareError: a model or its images cannot be used, or the machine cannot be measured.
        EngineError: the server process does not start.
    """
    _check_free(out, force)
    loaded = splits.load(bundles, samples)
    total = HOST_S + EACH_S * len(loaded) if seconds is None else seconds
    if not 0 < total < float("inf"):
        raise HardwareError(f"cannot calibrate: seconds is {total:g}, and has to be more than 0")
    found, reason = (list(meters), "no meter was given") if meters is not None else meters_here()
    for_power = min(_POWER * total, _MOST_POWER_S) if found else 0.0
    ladder = Ladder()
    shown = display or Display(quiet=True)
    with torch_threads(threads), shown.live(), shown.task("measuring", _STEPS) as bar:

        def reach(seconds_passed: float) -> None:
            bar.reach(round(_STEPS * min(1.0, seconds_passed / total)))

        power: Watts | str = reason
        if found:
            busy = ladder.densest
            power = measure_power(found, busy, for_power, lambda part: reach(part * for_power))
        left = total - for_power
        subjects: dict[Key, Run] = {("ladder", name, 1): run for name, run in ladder.subjects().items()}
        subjects |= {("coder", way, count): run for (way, count), run in coder.subjects().items()}
        for stages in loaded:
            runs = stages.subjects(left / (1 + len(loaded)))
            subjects |= {(_MODEL + stages.name, stage, size): run for (stage, size), run in runs.items()}
        timings = measure(subjects, left, lambda part: reach(for_power + part * left))
        device = _described(ladder, loaded, timings, power, title)
        if transport:
            carried = sends({"loopback": None})["loopback"]
            device = device.model_copy(update={"transport": describe.transport(carried)})
    return _write(out, device)


def _check_free(out: Path, force: bool) -> None:
    if out.suffix != ".toml":
        raise OutputError(f"{out}: a device file ends in .toml, by which it is told from a name")
    if out.exists() and not (force and out.is_file()):
        hint = "; --force replaces it" if out.is_file() else " and is no file"
        raise OutputError(f"{out} exists already{hint}")
    near = next(folder for folder in out.absolute().parents if folder.exists())
    if not (near.is_dir() and os.access(near, os.W_OK)):
        raise OutputError(f"{out}: cannot be written: {near} is no folder that you may write to")


def _write(out: Path, device: Device) -> Device:
    """Put the file there, once it has been read."""
    try:
        with replacing(out) as temporary:
            temporary.write_text(to_toml(device), encoding="utf-8")
            find_device(str(temporary))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from None
    return find_device(str(out))


def _described(
    ladder: Ladder,
    loaded: Sequence[Stages],
    timings: Mapping[Key, Timing],
    power: Watts | str,
    title: str | None,
) -> Device:
    def of(whom: str) -> dict[tuple[str, int], Timing]:
        return {(what, size): timing for (owner, what, size), timing in timings.items() if owner == whom}

    here = environment.describe()
    cpu = here.cpu or "a processor without a name"
    threads = f"{here.threads} thread{'s' * (here.threads > 1)}"
    blocks = len(next(iter(timings.values())).minima)
    powers = power if isinstance(power, str) else describe.powers(power)
    return Device(
        title=title or cpu,
        description=(
            f"Times are of one sample if nothing else is said, and of work that nothing interrupts: medians, "
            f"and quartiles, of the shortest calls of {blocks} blocks, taken in turn. On average "
            f"{os.getloadavg()[0]:.1f} processes ran or waited in the last minute, on {here.cpus} processors."
            + (f" No powers: {powers}." if isinstance(powers, str) else "")
        ),
        runtime=f"torch {here.torch}, float32, {threads}, {cpu}",
        sources={SOURCE: f"fedsim calibrate {__version__} on {cpu}, {threads}, {datetime.now(UTC).date()}"},
        compute=describe.compute(ladder, {name: timing for (name, _), timing in of("ladder").items()}),
        power=None if isinstance(powers, str) else powers,
        coding=describe.coding(of("coder")),
        networks={
            one.name: describe.network(one, of(_MODEL + one.name)) for one in loaded if one.device.local
        },
        splits={
            one.name: describe.split(one, of(_MODEL + one.name)) for one in loaded if not one.device.local
        },
    )
