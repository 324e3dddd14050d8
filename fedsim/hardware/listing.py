"""Presets as ``fedsim list`` shows them: all by title and main figures, one by every number and its source.

A ``*`` marks what is not verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fedsim.hardware.library import devices, find_device, find_link, find_radio, links, radios
from fedsim.hardware.models import radio_of
from fedsim.hardware.presets import Device, Direction, Link, unverified, values
from fedsim.hardware.quantity import Quantity
from fedsim.hardware.radio_presets import BleRadio, LoRaRadio, NbIotRadio, Radio, StateRadio

__all__ = ["KINDS", "figures", "footnote", "sheet", "titles"]

#: What can be listed.
KINDS: Final[Mapping[str, Callable[[], Mapping[str, Device | Radio | Link]]]] = MappingProxyType(
    {"devices": devices, "radios": radios, "links": links}
)
_FINDERS: Final[Mapping[str, Callable[[str], Device | Radio | Link]]] = {
    "devices": find_device,
    "radios": find_radio,
    "links": find_link,
}
#: What stands above and below the numbers.
_FRAME: Final = ("title", "description", "runtime", "sources")
_HEADINGS: Final = ("key", "value", "how", "trust", "verified", "source")
_VERIFIED: Final[Mapping[bool | str, str]] = {True: "yes", "second-hand": "second-hand", False: "no *"}
_LEGEND: Final = (
    "Trust: A is the best, E the worst. Second-hand: read in what quotes the source. "
    "*: assumed, or not read in the source."
)
_GAP: Final = 2  # characters between two columns
_LEAST: Final = 32  # characters of the source, or there is no table


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


def sheet(kind: str, name: str) -> RenderableType:
    """One preset: every value with where it is from, below its title and above its sources and its file.

    Args:
        kind: one of :data:`KINDS`.
        name: of the preset, or the path of a TOML file.

    Raises:
        HardwareError: unknown, or the file is wrong; as :func:`~fedsim.hardware.find_device`.
    """
    preset = _FINDERS[kind](name)
    parts: list[RenderableType] = [Text(preset.title, style="bold")]
    if preset.description:
        parts.append(Text(" ".join(preset.description.split())))
    if isinstance(preset, Device) and preset.runtime:
        parts.append(Text(f"Runtime: {preset.runtime}"))
    entries = [
        (key, value)
        for key, value in values(preset)
        if isinstance(value, Quantity | str) and key.partition(".")[0] not in _FRAME
    ]
    if entries:
        parts += ["", _Entries(entries)]
    known = any(isinstance(value, Quantity) for _, value in entries)
    parts += ["", Text(_LEGEND if known else "It has no numbers.")]
    if preset.sources:
        parts += ["", _citations(preset.sources)]
    return Group(*parts, "", Text(str(preset.file), no_wrap=True, overflow="ignore"))


@dataclass(frozen=True)
class _Entries:
    """Values by key: a table, or where its last column were too narrow, one below the other."""

    entries: Sequence[tuple[str, Quantity | str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = [_cells(key, value) for key, value in self.entries]
        *columns, _ = zip(_HEADINGS, *rows, strict=True)
        taken = sum(max(map(cell_len, column)) + _GAP for column in columns)
        if taken + _LEAST <= options.max_width:
            yield _table(rows)
        else:
            yield from _stacked(rows)


def _cells(key: str, value: Quantity | str) -> tuple[str, ...]:
    if isinstance(value, str):
        return key, value, "", "", "", ""
    return key, str(value), value.how, value.trust, _VERIFIED[value.verified], value.citation


def _style(verified: str) -> str:
    return "yellow" if verified == _VERIFIED[False] else ""


def _table(rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for heading in _HEADINGS[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(_HEADINGS[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style=_style(row[4]))
    return table


def _stacked(rows: Iterable[tuple[str, ...]]) -> Iterable[RenderableType]:
    for key, value, how, trust, verified, source in rows:
        yield Text.assemble((key, "bold"), "  ", value, style=_style(verified), overflow="fold")
        if source:
            read = {"yes": "verified", "no *": "not verified *"}.get(verified, verified)
            origin = Text(f"{how}, trust {trust}, {read}: {source}", style=_style(verified), overflow="fold")
            yield Padding(origin, (0, 0, 0, 4))


def _citations(sources: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, citation in sources.items():
        table.add_row(Text(name), Text(citation))
    return table


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
