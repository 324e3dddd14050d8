"""Presets as ``fedsim list`` shows them: title, main figures, and a mark where a number is not verified."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fedsim.hardware.library import devices, links, radios
from fedsim.hardware.models import radio_of
from fedsim.hardware.presets import Device, Direction, Link, unverified
from fedsim.hardware.radio_presets import BleRadio, LoRaRadio, NbIotRadio, Radio, StateRadio

__all__ = ["KINDS", "figures", "footnote", "titles"]

#: What can be listed.
KINDS: Final[Mapping[str, Callable[[], Mapping[str, Device | Radio | Link]]]] = MappingProxyType(
    {"devices": devices, "radios": radios, "links": links}
)


def titles(kind: str) -> dict[str, tuple[str, str]]:
    """Title and main figures of every preset of a kind, by name.

    A ``*`` behind the title says that a number of it is not verified.
    """
    return {
        name: (preset.title + (" *" if unverified(preset) else ""), figures(preset))
        for name, preset in KINDS[kind]().items()
    }


def footnote(kind: str) -> str:
    """What the mark means; empty where no preset of a kind has one."""
    marked = [preset for preset in KINDS[kind]().values() if unverified(preset)]
    if not marked:
        return ""
    numbers = sum(len(unverified(preset)) for preset in marked)
    return (
        f"* {numbers} numbers of these are assumed, or were not read in their source: those with "
        f"verified = false in {marked[0].file.parent}"
    )


def figures(preset: Device | Radio | Link) -> str:
    """The main numbers of a preset, on one line."""
    parts: Iterable[str]
    match preset:
        case Device():
            parts = _of_a_device(preset)
        case StateRadio():
            parts = _of_states(preset)
        case LoRaRadio():
            parts = (
                f"SF{preset.spreading_factor}, {preset.bandwidth}, duty cycle {preset.duty_cycle}",
                f"{preset.transmit} at {preset.voltage} while it sends",
            )
        case BleRadio():
            parts = (
                f"{preset.rate}, {preset.payload} a packet, an event every {preset.interval}",
                f"{preset.transmit} at {preset.voltage} while it sends",
            )
        case NbIotRadio():
            parts = (
                f"{preset.up_rate} up, {preset.down_rate} down",
                f"{preset.transmit} while it sends, {preset.wake.energy} to wake",
            )
        case Link():
            parts = _of_a_link(preset)
    return "; ".join(parts)


def _of_a_device(device: Device) -> Iterable[str]:
    if device.compute is None:
        yield "no rate"
    else:
        fixed = device.compute.overhead
        yield f"{device.compute.rate}{f' behind {fixed}' if fixed.value else ''}"
    if device.power is None:
        yield "no powers"
    else:
        yield f"{device.power.idle} idle, {device.power.active} computing"
    if device.battery is not None:
        yield f"{device.battery.charge} at {device.battery.voltage}"
    if device.coding is not None:
        coder = device.coding.encode
        yield f"{coder.fixed.value:g} {coder.fixed.unit} and {coder.per_symbol} a symbol to encode"
    if device.networks:
        yield f"{len(device.networks)} network{'s' * (len(device.networks) > 1)} measured"
    if device.splits:
        yield f"{len(device.splits)} split network{'s' * (len(device.splits) > 1)} measured"


def _of_states(radio: StateRadio) -> Iterable[str]:
    active, rate = radio.active, radio.active.up_per_rate
    power = f"{active.power}" if active.baseline is None else f"{radio_of(radio).active_w:.3g} W"
    yield f"{power} active{f', and {rate} up' if rate.value else ''}"
    if radio.promotion is not None:
        yield f"promotion {radio.promotion.time}"
    for phase in radio.tail:
        yield f"tail {phase.time} at {phase.power}"


def _of_a_link(link: Link) -> Iterable[str]:
    for way, direction in (("up", link.up), ("down", link.down)):
        if said := list(_of_a_direction(direction)):
            yield f"{way} {', '.join(said)}"
    yield "one for each device" if link.sharing == "alone" else f"shared ({link.sharing})"
    if link.radio is not None:
        yield f"radio {link.radio}"


def _of_a_direction(direction: Direction) -> Iterable[str]:
    if direction.trace is not None:
        yield f"as in {direction.trace}"
    if direction.rate is not None:
        yield str(direction.rate)
    if direction.delay is not None:
        yield str(direction.delay)
