"""What ``fedsim list`` lists: the names that a scenario can use, and of a preset every number."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["PRESETS", "Kind", "footnote", "sheet", "titles"]


class Kind(StrEnum):
    """What ``fedsim list`` lists."""

    BOTTLENECKS = "bottlenecks"
    BACKBONES = "backbones"
    DATASETS = "datasets"
    RECIPES = "recipes"
    ENGINES = "engines"
    METHODS = "methods"
    PARTITIONS = "partitions"
    ARRIVALS = "arrivals"
    AVAILABILITY = "availability"
    DEVICES = "devices"
    RADIOS = "radios"
    LINKS = "links"


#: Kinds that are presets: their numbers can be shown.
PRESETS: Final = (Kind.DEVICES, Kind.RADIOS, Kind.LINKS)


def titles(kind: Kind) -> dict[str, str]:
    """Every name of a kind with a line or two on it, in rich's markup."""
    return _NAMES[kind]()


def footnote(kind: Kind) -> str | None:
    """What is to be known of all of them."""
    if kind not in PRESETS:
        return None
    from fedsim.hardware import listing  # noqa: PLC0415

    return listing.footnote(kind)


def sheet(kind: Kind, name: str) -> RenderableType:
    """Every number of a preset with where it is from, for a console.

    Args:
        kind: one of :data:`PRESETS`.
        name: of the preset, or the path of a TOML file.

    Raises:
        HardwareError: unknown, or the file is wrong.
    """
    from fedsim.hardware import listing  # noqa: PLC0415

    return listing.sheet(kind, name)


def _bottlenecks() -> dict[str, str]:
    """First lines of their documentation, and where they come from; of what cannot be used, why."""
    from rich.markup import escape  # noqa: PLC0415

    from edge.bottlenecks import find, origins  # noqa: PLC0415

    titles: dict[str, str] = {}
    for known in origins():
        try:
            title = (find(known.name).__doc__ or "Says nothing of itself.").strip().partition("\n")[0]
        except (Exception, SystemExit) as error:  # importing the code of others can raise anything
            title = f"cannot be used: {error or type(error).__name__}"
        titles.setdefault(known.name, escape(title.replace("``", "")))
        titles[known.name] += f"\n[dim]{escape(str(known))}[/dim]"
    return titles


def _backbones() -> dict[str, str]:
    from edge.backbones import available  # noqa: PLC0415

    return available()


def _datasets() -> dict[str, str]:
    from fedsim.data import available  # noqa: PLC0415

    return available()


def _recipes() -> dict[str, str]:
    from fedsim.training.recipes import available  # noqa: PLC0415

    return available()


def _engines() -> dict[str, str]:
    """Those of split networks, and those of federations."""
    from fedsim.scenario import ENGINES  # noqa: PLC0415
    from fedsim.scenario_federation import FEDERATED_ENGINES  # noqa: PLC0415

    titles = {name: engine.title for name, engine in ENGINES.items()}
    for name, engine in FEDERATED_ENGINES.items():
        told = f"Federations: {engine.title}"
        titles[name] = f"{titles[name]}\n{told}" if name in titles else told
    return titles


def _methods() -> dict[str, str]:
    from fedsim.federated.method import available  # noqa: PLC0415

    return available()


def _partitions() -> dict[str, str]:
    from fedsim.data.partitions import available  # noqa: PLC0415

    return available()


def _arrivals() -> dict[str, str]:
    from fedsim.simulator.arrivals import available  # noqa: PLC0415

    return _plain(available())


def _availability() -> dict[str, str]:
    from fedsim.simulator.availability import available  # noqa: PLC0415

    return _plain(available())


def _plain(titles: dict[str, str]) -> dict[str, str]:
    """Without the marks of code."""
    return {name: title.replace("``", "") for name, title in titles.items()}


def _hardware(kind: Kind) -> dict[str, str]:
    """Titles, and below each the main figures."""
    from rich.markup import escape  # noqa: PLC0415

    from fedsim.hardware import listing  # noqa: PLC0415

    return {
        name: f"{escape(title)}\n[dim]{escape(figures)}[/dim]"
        for name, (title, figures) in listing.titles(kind).items()
    }


_NAMES: dict[Kind, Callable[[], dict[str, str]]] = {
    Kind.BOTTLENECKS: _bottlenecks,
    Kind.BACKBONES: _backbones,
    Kind.DATASETS: _datasets,
    Kind.RECIPES: _recipes,
    Kind.ENGINES: _engines,
    Kind.METHODS: _methods,
    Kind.PARTITIONS: _partitions,
    Kind.ARRIVALS: _arrivals,
    Kind.AVAILABILITY: _availability,
    **{kind: partial(_hardware, kind) for kind in PRESETS},
}
