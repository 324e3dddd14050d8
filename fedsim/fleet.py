"""The devices of a scenario as an engine is given them: what they are, their links, and what is due when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edge.link import LinkSpec
from edge.schedule import Schedule
from fedsim.engines.plan import DevicePlan, GroupPlan
from fedsim.errors import EngineError, HardwareError, Problem, SimulationError
from fedsim.hardware import find_device, find_link, find_radio, radio_of_link, unverified
from fedsim.hardware.models import AnyRadio, any_radio_of, battery_of, link_of, roofline_of
from fedsim.hardware.presets import Device, Link
from fedsim.hardware.radio_presets import BleRadio, LoRaRadio, Radio
from fedsim.scenario_sections import FleetGroup, ServerSection
from fedsim.simulator import arrivals, availability

__all__ = [
    "Paces",
    "cells_of",
    "device_plans",
    "fleet_problems",
    "group_plans",
    "only_virtual",
    "remarks",
    "timeless",
]

#: What head and encoder of each method take [s], by the name of a device.
Paces = Mapping[str, Mapping[str, tuple[float, float | None]]]

#: Of devices that nobody names.
NO_PACES: Paces = MappingProxyType({})
_JOULES_PER_WH = 3600.0
#: Parts of a device file that no prediction is made of: whole networks of others, and how large memory is.
_UNUSED = ("networks", "memory")
#: Keys of a group that only a model of the device can follow.
_OF_VIRTUAL_TIME = ("radio", "availability", "battery_wh")


def cells_of(fleet: tuple[FleetGroup, ...]) -> dict[str, LinkSpec]:
    """The links of the groups, named as :func:`device_plans` and :func:`group_plans` name them.

    Raises:
        HardwareError: a link that is unknown, or whose file is wrong.
    """
    return {
        _cell(number, group): link_of(find_link(group.link))
        for number, group in enumerate(fleet)
        if group.link is not None
    }


def group_plans(fleet: tuple[FleetGroup, ...]) -> tuple[GroupPlan, ...]:
    """The groups, for an engine in virtual time.

    Raises:
        HardwareError: a device or radio that is unknown, or whose file is wrong.
        SimulationError: arrivals or an availability that are none.
    """
    return tuple(_group_plan(number, group) for number, group in enumerate(fleet))


def device_plans(
    fleet: tuple[FleetGroup, ...],
    samples: int,
    seed: int,
    fallback: Path | None,
    folder: Path,
    paces: Paces = NO_PACES,
) -> Iterator[DevicePlan]:
    """The devices one by one, for an engine in wall time.

    Args:
        fleet: the groups.
        samples: of which device i of n has every n-th, beginning with its own number.
        seed: of what is lost, and of arrivals; each device draws its own.
        fallback: bundle of the whole network.
        folder: for the schedules of those that have arrivals.
        paces: of the devices that the groups name.

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
            pace=None if group.device is None else paces.get(group.device),
            cell=None if group.link is None else _cell(place, group),
        )


def remarks(
    fleet: tuple[FleetGroup, ...], server: ServerSection | None = None, *, radios: bool = True
) -> list[str]:
    """What is to be known of the numbers of devices, links and radios: those that nobody has verified.

    Args:
        fleet: the groups.
        server: likewise.
        radios: whether the radios are used, those that the groups name and else those of their links.
    """
    devices = dict.fromkeys(group.device for group in fleet if group.device is not None)
    if server is not None and server.device is not None:
        devices |= {server.device: None}
    links = dict.fromkeys(group.link for group in fleet if group.link is not None)
    found: dict[str, None] = {}
    for name in devices:
        found |= dict.fromkeys(unverified(find_device(name), _UNUSED))
    for name in links:
        found |= dict.fromkeys(unverified(find_link(name)))
    for group in fleet if radios else ():
        if group.link is not None and (radio := _radio_preset(group, find_link(group.link))) is not None:
            found |= dict.fromkeys(unverified(radio))
    return list(found)


def only_virtual(
    fleet: tuple[FleetGroup, ...], server: ServerSection, duration_s: float | None
) -> Iterator[Problem]:
    """What an engine in wall time cannot follow."""
    message = "is a model, which only the engine 'virtual' follows; choose that, or leave the key out"
    for number, group in enumerate(fleet):
        for key in _OF_VIRTUAL_TIME:
            if (value := getattr(group, key)) is not None:
                yield Problem(f"fleet.{number}.{key}", message, Problem.shown(_plain(value)))
        if group.link is not None and (radio := _low_power(group.link)) is not None:
            said = (
                f"has no rate of its own: only the engine 'virtual' asks the {radio} how long payloads take"
            )
            yield Problem(f"fleet.{number}.link", said, Problem.shown(group.link))
    for key, value in (("server.device", server.device), ("duration_s", duration_s)):
        if value is not None:
            yield Problem(key, message, Problem.shown(value))


def fleet_problems(
    fleet: tuple[FleetGroup, ...],
    samples: int | None,
    server: ServerSection | None = None,
    duration_s: float | None = None,
) -> Iterator[Problem]:
    """What is wrong with the devices, links, arrivals and availabilities of the groups.

    Args:
        fleet: the groups.
        samples: that the devices share; None where it is not known yet.
        server: whose device is looked at, too.
        duration_s: how long the fleet works, where that is said.
    """
    devices = sum(group.count for group in fleet)
    first = 0
    cells: dict[str, tuple[int, str]] = {}
    if server is not None and server.device is not None:
        yield from _unfound("server.device", find_device, server.device)
    for number, group in enumerate(fleet):
        at = f"fleet.{number}"
        if group.device is not None:
            yield from _unfound(f"{at}.device", find_device, group.device)
        if group.radio is not None:
            yield from _unfound(f"{at}.radio", find_radio, group.radio)
        if group.link is not None:
            wrong = list(_unfound(f"{at}.link", lambda name: link_of(find_link(name)), group.link))
            yield from wrong or _pair_problems(at, group)
        for key in ("radio", "cell"):
            if group.link is None and (value := getattr(group, key)) is not None:
                yield Problem(f"{at}.{key}", "is of a link, and the group has none", Problem.shown(value))
        if group.cell is not None and group.link is not None:
            place, link = cells.setdefault(group.cell, (number, group.link))
            if link != group.link:
                said = f"is the cell of fleet.{place}, whose link is {link!r}; a cell is one link"
                yield Problem(f"{at}.cell", said, Problem.shown(group.cell))
        yield from _arrival_problems(at, group, len(range(first, samples or 0, devices)), duration_s)
        first += group.count


def timeless(fleet: tuple[FleetGroup, ...], server: ServerSection) -> Iterator[Problem]:
    """Devices and a server of which no time is known: they have no rate, and nothing was measured on them."""
    named = [(f"fleet.{number}.device", group.device) for number, group in enumerate(fleet)]
    for key, name in (*named, ("server.device", server.device)):
        try:
            device = None if name is None else find_device(name)
            if device is not None and not device.splits and not device.networks:
                roofline_of(device)
        except HardwareError as error:
            yield Problem(key, str(error), Problem.shown(name))


def _pair_problems(at: str, group: FleetGroup) -> Iterator[Problem]:
    """A link and a radio that do not go together, and what a link says that its radio does not ask."""
    assert group.link is not None
    link = find_link(group.link)
    try:
        radio, own = _radio_preset(group, link), radio_of_link(link)
    except HardwareError as error:
        yield Problem(f"{at}.link" if group.radio is None else f"{at}.radio", str(error))
        return
    key = "link" if group.radio is None else "radio"
    shown = Problem.shown(getattr(group, key))
    if isinstance(radio, LoRaRadio | BleRadio):
        said = [name for name in ("rate", "trace", "jitter", "loss", "queue") if _has(link, name)]
        if link.sharing != "alone":
            said.append("sharing")
        if said:
            message = f"{radio} says itself how long payloads take; {link} has {', '.join(said)}, which is"
            yield Problem(f"{at}.{key}", f"{message} of a link with a rate", shown)
        if group.cell is not None:
            message = f"is shared, and each device of {radio} has a channel of its own; leave it out"
            yield Problem(f"{at}.cell", message, Problem.shown(group.cell))
    elif isinstance(own, LoRaRadio | BleRadio):
        message = f"needs a link with a rate, and {link} has none: it leaves that to {own}"
        yield Problem(f"{at}.radio", message, shown)
        return
    if link.spreading_factor is not None and not isinstance(radio, LoRaRadio):
        message = f"{link} has a spreading factor, which is of LoRa, and the radio is {radio or 'not named'}"
        yield Problem(f"{at}.{key}", message, shown)


def _has(link: Link, name: str) -> bool:
    return any(getattr(way, name) is not None for way in (link.up, link.down))


def _arrival_problems(
    at: str, group: FleetGroup, samples: int, duration_s: float | None
) -> Iterator[Problem]:
    """When samples are due, and the devices there."""
    paused = True
    if group.arrivals is not None:
        options = group.arrivals.model_dump()
        try:
            paused = arrivals.from_options(options).paused
            if duration_s is None:
                _schedule(options, samples, 0)
        except (EngineError, SimulationError) as error:
            said = str(error).removeprefix("arrivals: ")
            yield Problem(f"{at}.arrivals", said, Problem.shown(options))
            return
    if group.availability is None:
        return
    options = group.availability.model_dump()
    try:
        availability.from_options(options)
    except SimulationError as error:
        said = str(error).removeprefix("availability: ")
        yield Problem(f"{at}.availability", said, Problem.shown(options))
        return
    if paused:
        said = "needs arrivals that have times (periodic, poisson, listed): what is due meanwhile is not done"
        yield Problem(f"{at}.availability", said, Problem.shown(options))


def _unfound(key: str, find: Callable[[str], object], name: str) -> Iterator[Problem]:
    try:
        find(name)
    except HardwareError as error:
        yield Problem(key, str(error), Problem.shown(name))


def _group_plan(number: int, group: FleetGroup) -> GroupPlan:
    device = None if group.device is None else find_device(group.device)
    link = None if group.link is None else find_link(group.link)
    asked = {"kind": "closed"} if group.arrivals is None else group.arrivals.model_dump()
    there = None if group.availability is None else availability.from_options(group.availability.model_dump())
    return GroupPlan(
        count=group.count,
        in_flight=group.in_flight,
        deadline_s=group.deadline_s,
        arrivals=arrivals.from_options(asked),
        device=device,
        cell=None if link is None else _cell(number, group),
        radio=None if link is None else _radio(group, link),
        availability=there,
        battery_j=_battery_j(group, device),
        erasure=group.erasure,
    )


def _radio(group: FleetGroup, link: Link) -> AnyRadio | None:
    """The devices' end of their link."""
    radio = _radio_preset(group, link)
    return None if radio is None else any_radio_of(radio, link)


def _radio_preset(group: FleetGroup, link: Link) -> Radio | None:
    return radio_of_link(link) if group.radio is None else find_radio(group.radio)


def _battery_j(group: FleetGroup, device: Device | None) -> float | None:
    if group.battery_wh is not None:
        return _JOULES_PER_WH * group.battery_wh
    battery = None if device is None else battery_of(device)
    return None if battery is None else battery.joules


def _low_power(link: str) -> Radio | None:
    """The radio of a link that has no rate of its own."""
    try:
        found = find_link(link)
        radio = radio_of_link(found)
    except HardwareError:
        return None  # told elsewhere
    return radio if isinstance(radio, LoRaRadio | BleRadio) else None


def _plain(value: object) -> object:
    return value.model_dump() if hasattr(value, "model_dump") else value


def _cell(place: int, group: FleetGroup) -> str:
    return f"link-{place}" if group.cell is None else f"cell-{group.cell}"


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
