"""The devices of a scenario as an engine is given them: their links, and when their samples are due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edge.link import LinkSpec
from edge.schedule import Schedule
from fedsim.engines.plan import DevicePlan
from fedsim.errors import EngineError, HardwareError, Problem, SimulationError
from fedsim.hardware import find_link, unverified
from fedsim.hardware.models import link_of
from fedsim.scenario_sections import FleetGroup
from fedsim.simulator import arrivals

__all__ = ["cells_of", "device_plans", "fleet_problems", "remarks"]


def cells_of(fleet: tuple[FleetGroup, ...]) -> dict[str, LinkSpec]:
    """The links of the groups, named as :func:`device_plans` names them.

    Raises:
        HardwareError: a link that is unknown, or whose file is wrong.
    """
    return {
        _cell(number): link_of(find_link(group.link))
        for number, group in enumerate(fleet)
        if group.link is not None
    }


def device_plans(
    fleet: tuple[FleetGroup, ...], samples: int, seed: int, fallback: Path | None, folder: Path
) -> Iterator[DevicePlan]:
    """The devices, group by group.

    Args:
        fleet: the groups.
        samples: of which device i of n has every n-th, beginning with its own number.
        seed: of what is lost, and of arrivals; each device draws its own.
        fallback: bundle of the whole network.
        folder: for the schedules of those that have arrivals.

    Raises:
        EngineError: fewer arrivals than samples.
    """
    groups = [(place, group) for place, group in enumerate(fleet) for _ in range(group.count)]
    for number, (place, group) in enumerate(groups):
        client = f"device-{number}"
        schedule = None
        if group.arrivals is not None:
            mine = len(range(number, samples, len(groups)))
            schedule = folder / f"{client}.safetensors"
            _schedule(group.arrivals.model_dump(), mine, [seed, number]).write(schedule)
        yield DevicePlan(
            client=client,
            in_flight=group.in_flight,
            deadline_s=group.deadline_s,
            fallback=fallback if group.fallback else None,
            erasure=group.erasure,
            erasure_seed=seed,
            schedule=schedule,
            cell=None if group.link is None else _cell(place),
        )


def remarks(fleet: tuple[FleetGroup, ...]) -> list[str]:
    """What is to be known of the links' numbers: those that nobody has verified."""
    names = dict.fromkeys(group.link for group in fleet if group.link is not None)
    return [line for name in names for line in unverified(find_link(name))]


def fleet_problems(fleet: tuple[FleetGroup, ...], samples: int | None) -> Iterator[Problem]:
    """What is wrong with the links and arrivals of the groups.

    Args:
        fleet: the groups.
        samples: that the devices share; None where it is not known yet.
    """
    devices = sum(group.count for group in fleet)
    first = 0
    for number, group in enumerate(fleet):
        if group.link is not None:
            try:
                link_of(find_link(group.link))
            except HardwareError as error:
                yield Problem(f"fleet.{number}.link", str(error), Problem.shown(group.link))
        if group.arrivals is not None:
            options = group.arrivals.model_dump()
            try:
                _schedule(options, len(range(first, samples or 0, devices)), 0)
            except (EngineError, SimulationError) as error:
                said = str(error).removeprefix("arrivals: ")
                yield Problem(f"fleet.{number}.arrivals", said, Problem.shown(options))
        first += group.count


def _cell(place: int) -> str:
    return f"link-{place}"


def _schedule(options: Mapping[str, object], count: int, seed: int | list[int]) -> Schedule:
    """When so many samples are due.

    Raises:
        SimulationError: arrivals that are none.
        EngineError: there are not so many.
    """
    process = arrivals.from_options(options)
    found = process.times(np.random.default_rng(seed), np.inf, count)
    if len(found) < count:
        raise EngineError(f"there are {len(found)} of them, and a device has {count} samples")
    return Schedule(found, process.paused)
