"""The clients of a federation as the simulator knows them: devices, radios, and the cells that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.link import LinkSpec
from fedsim.errors import HardwareError, Problem, SimulationError
from fedsim.fleet import cells_of, group_plans
from fedsim.hardware.compute import Roofline
from fedsim.hardware.models import power_of, roofline_of
from fedsim.hardware.radio import RadioModel
from fedsim.scenario_sections import FleetGroup
from fedsim.simulator.fleet import ALWAYS_ON, NO_POWER, Cell, Device, Work
from fedsim.simulator.links import Place, placed

__all__ = ["ClientGroup", "Premises", "premises_of", "pricing_problems"]

#: Where no link is named: right beside the server.
_BESIDE = LinkSpec()


@dataclass(frozen=True)
class ClientGroup:
    """Clients that are alike.

    Args:
        link: between each and the server.
        roofline: of the device; None where none is named, and the clients compute as this machine does.
    """

    link: LinkSpec
    roofline: Roofline | None


@dataclass(frozen=True, eq=False)
class Premises:
    """Who the clients are, and where.

    Args:
        groups: of clients.
        group_of: number of each client's group, int64 [clients].
        devices: of the simulator, one a client, without samples of their own.
        cells: of the simulator.
        powered: whether the powers of all devices are known.
        heard: whether the radios of all links are known.
        notes: what is not, in words.
    """

    groups: Sequence[ClientGroup]
    group_of: NDArray[np.int64]
    devices: Sequence[Device]
    cells: Sequence[Cell]
    powered: bool
    heard: bool
    notes: Sequence[str]

    @property
    def rest_w(self) -> float | None:
        """What all devices draw at rest with their radios asleep; None where it is not known."""
        if not (self.powered and self.heard):
            return None
        return float(sum(one.power.base_w + one.radio.idle_w for one in self.devices))


def pricing_problems(fleet: Sequence[FleetGroup]) -> Iterator[Problem]:
    """Why rounds cannot be priced on a fleet; the names in it are known to be right.

    What has airtimes and duty cycles in the place of a rate is no link for rounds, and a device without a
    rate of arithmetic cannot be said to train.
    """
    for number, (group, plan) in enumerate(zip(fleet, group_plans(tuple(fleet)), strict=True)):
        if plan.radio is not None and not isinstance(plan.radio, RadioModel):
            name = type(plan.radio).__name__
            message = f"is of {name}, on which rounds are not priced; has to be cellular, Wi-Fi or Ethernet"
            key = "link" if group.radio is None else "radio"
            yield Problem(f"fleet.{number}.{key}", message, Problem.shown(getattr(group, key)))
        if plan.device is not None:
            try:
                roofline_of(plan.device)
            except HardwareError as error:
                yield Problem(f"fleet.{number}.device", str(error), Problem.shown(group.device))


def premises_of(fleet: Sequence[FleetGroup]) -> Premises:
    """The clients of a fleet: client i is device i, group by group.

    Raises:
        HardwareError: a device, link or radio that is unknown, or lacks what is needed.
        SimulationError: a radio on which rounds are not priced.
    """
    specs, plans = cells_of(tuple(fleet)), group_plans(tuple(fleet))
    group_of = np.repeat(np.arange(len(plans)), [plan.count for plan in plans])
    cells, places = _placed(specs, [plans[group].cell for group in group_of])
    groups, powers, radios = [], [], []
    for plan in plans:
        if plan.radio is not None and not isinstance(plan.radio, RadioModel):
            raise SimulationError(f"rounds are not priced on {type(plan.radio).__name__}")
        groups.append(
            ClientGroup(
                link=_BESIDE if plan.cell is None else specs[plan.cell],
                roofline=None if plan.device is None else roofline_of(plan.device),
            )
        )
        powers.append(None if plan.device is None or plan.device.power is None else power_of(plan.device))
        radios.append(ALWAYS_ON if plan.cell is None else plan.radio)
    devices = [
        Device(
            Work(np.zeros(0)),
            place.up,
            place.down,
            radio=radios[group] or ALWAYS_ON,
            power=powers[group] or NO_POWER,
        )
        for group, place in zip(group_of, places, strict=True)
    ]
    return Premises(
        groups=groups,
        group_of=group_of,
        devices=devices,
        cells=cells,
        powered=None not in powers,
        heard=None not in radios,
        notes=[
            *_missing("the powers of the devices of {} are not known", powers),
            *_missing("the radios of {} are not known", radios),
        ],
    )


def _placed(specs: dict[str, LinkSpec], names: Sequence[str | None]) -> tuple[list[Cell], list[Place]]:
    """The cells, and the place of each client, by the names of their links."""
    members: dict[str | None, list[int]] = {}
    for client, name in enumerate(names):
        members.setdefault(name, []).append(client)
    links = [(_BESIDE if name is None else specs[name], len(found)) for name, found in members.items()]
    cells, places = placed(links)
    order = [client for found in members.values() for client in found]
    return cells, [place for _, place in sorted(zip(order, places, strict=True), key=lambda pair: pair[0])]


def _missing(what: str, values: Sequence[object]) -> Iterator[str]:
    without = ", ".join(f"fleet.{number}" for number, value in enumerate(values) if value is None)
    if without:
        yield f"joules are unavailable as a whole: {what.format(without)}"
