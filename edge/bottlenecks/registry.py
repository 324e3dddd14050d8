"""Bottlenecks by name: our own, those published as entry points, and ``package.module:Class``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, TypeVar

from edge.bottlenecks.base import Bottleneck

__all__ = [
    "ENTRY_POINTS",
    "AmbiguousNameError",
    "Origin",
    "available",
    "create",
    "find",
    "origin",
    "origins",
    "register",
]

#: The entry point group in which a package publishes its bottlenecks.
ENTRY_POINTS = "fedsim.bottlenecks"
#: The distribution that our own come in.
_OURS = "fedsim"

B = TypeVar("B", bound=type[Bottleneck])
_registered: dict[str, type[Bottleneck]] = {}


class AmbiguousNameError(LookupError):
    """One name for several bottlenecks. The message says where each comes from."""


@dataclass(frozen=True, order=True)
class Origin:
    """Where a bottleneck comes from."""

    name: str
    path: str  #: ``package.module:Class``
    distribution: str | None = None  #: the installed package; None where nothing says
    version: str | None = None  #: the package's

    def __str__(self) -> str:
        package = " ".join(part for part in (self.distribution, self.version) if part)
        return f"{package}, {self.path}" if package else self.path


def register(name: str) -> Callable[[B], B]:
    """Class decorator that makes a bottleneck known by ``name``.

    Raises:
        ValueError: another class has that name already.
    """

    def decorate(cls: B) -> B:
        known = _registered.get(name)
        if known is not None and _path(known) != _path(cls):
            raise ValueError(f"bottleneck {name!r} is already {known.__module__}.{known.__qualname__}")
        _registered[name] = cls
        return cls

    return decorate


def available() -> dict[str, str]:
    """Every known name with its ``package.module:Class``; of several for one name, the first."""
    paths: dict[str, str] = {}
    for known in origins():
        paths.setdefault(known.name, known.path)
    return paths


def origins() -> list[Origin]:
    """Where everything that has a name comes from, by name. Nothing is imported for it.

    A name that several packages publish stands there several times, what is registered first.
    """
    published = sorted(map(_publication, _entry_points(tuple(sys.path))))
    # What is both published and registered is listed once: the package says more.
    told = {(known.name, known.path) for known in published}
    registered = [_registration(name) for name in _registered]
    first = [known for known in registered if (known.name, known.path) not in told]
    return sorted([*first, *published], key=lambda known: known.name)


def origin(name: str) -> Origin:
    """Where the bottleneck of a name, or of ``package.module:Class``, comes from.

    Raises:
        LookupError, TypeError: as :func:`find`.
    """
    find(name)
    return next((known for known in origins() if known.name == name), Origin(name, name))


def find(name: str) -> type[Bottleneck]:
    """The bottleneck class of a registered name, an entry point, or ``package.module:Class``.

    Raises:
        LookupError: nothing of that name; the message lists what there is.
        AmbiguousNameError: several things of that name; the message says where each comes from.
        TypeError: the name leads to something that is not a Bottleneck.
    """
    candidates = [known for known in origins() if known.name == name]
    if len(candidates) > 1 and not _are_one(candidates):
        raise AmbiguousNameError(
            f"bottleneck {name!r} is given twice: {'; and '.join(map(str, candidates))}; "
            "name the class by package.module:Class, or uninstall one of the packages"
        )
    if name in _registered:
        return _registered[name]
    if candidates:
        return _checked(name, _imported(candidates[0].path))
    if ":" in name:
        return _checked(name, _imported(name))
    raise LookupError(
        f"unknown bottleneck {name!r}; known are {', '.join(available())}, or package.module:Class"
    )


def create(
    name: str, input_shape: Iterable[int], output_shape: Iterable[int] | None = None, **options: Any
) -> Bottleneck:
    """Make the bottleneck ``name`` for the given shapes (of one sample) with its own options.

    Raises:
        LookupError: unknown name.
        TypeError, ValueError: options that the bottleneck does not take.
    """
    cls = find(name)
    try:
        return cls(tuple(input_shape), None if output_shape is None else tuple(output_shape), **options)
    except TypeError as error:
        raise TypeError(f"bottleneck {name!r}: {error}") from error


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _registration(name: str) -> Origin:
    path = _path(_registered[name])
    return Origin(name, path, *(_our_distribution() if path.startswith("edge.") else ()))


def _publication(point: EntryPoint) -> Origin:
    path = point.value.partition("[")[0].strip()
    return Origin(point.name, path, *((point.dist.name, point.dist.version) if point.dist else ()))


@lru_cache(maxsize=1)
def _entry_points(_search_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What is published on the search path. Reading it takes tens of milliseconds."""
    return tuple(entry_points(group=ENTRY_POINTS))


@lru_cache(maxsize=1)
def _our_distribution() -> tuple[str, str | None]:
    try:
        return _OURS, version(_OURS)
    except PackageNotFoundError:  # run from a source tree
        return _OURS, None


def _are_one(candidates: Iterable[Origin]) -> bool:
    """Whether all paths lead to one and the same class."""
    try:
        return len({id(_imported(known.path)) for known in candidates}) == 1
    except Exception:  # importing the code of others can raise anything
        return False


def _imported(path: str) -> object:
    module, _, attribute = path.partition(":")
    try:
        return reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # importing the code of others can raise anything
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise LookupError(f"bottleneck {path!r} cannot be imported: {kind}{error}") from error


def _checked(name: str, found: object) -> type[Bottleneck]:
    if not (isinstance(found, type) and issubclass(found, Bottleneck)):
        raise TypeError(f"{name!r} is not a subclass of edge.bottlenecks.Bottleneck")
    return found
