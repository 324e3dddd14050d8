"""Bottlenecks by name: our own, those published as entry points, and ``package.module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from edge.bottlenecks.base import Bottleneck

__all__ = ["ENTRY_POINTS", "available", "create", "find", "register"]

#: The entry point group in which a package publishes its bottlenecks.
ENTRY_POINTS = "fedsim.bottlenecks"

B = TypeVar("B", bound=type[Bottleneck])
_registered: dict[str, type[Bottleneck]] = {}


def register(name: str) -> Callable[[B], B]:
    """Class decorator that makes a bottleneck known by ``name``.

    Raises:
        ValueError: another class has that name already.
    """

    def decorate(cls: B) -> B:
        known = _registered.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"bottleneck {name!r} is already {known.__module__}.{known.__qualname__}")
        _registered[name] = cls
        return cls

    return decorate


def available() -> dict[str, str]:
    """Every known name with where it comes from (``package.module:Class``)."""
    names = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    names |= {name: f"{cls.__module__}:{cls.__qualname__}" for name, cls in _registered.items()}
    return dict(sorted(names.items()))


def find(name: str) -> type[Bottleneck]:
    """The bottleneck class of a registered name, an entry point, or ``package.module:Class``.

    Raises:
        LookupError: nothing of that name; the message lists what there is.
        TypeError: the name leads to something that is not a Bottleneck.
    """
    if name in _registered:
        return _registered[name]
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _checked(name, _imported(point.value))
    if ":" in name:
        return _checked(name, _imported(name))
    raise LookupError(
        f"unknown bottleneck {name!r}; known are {_listed(available())}, or package.module:Class"
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


def _imported(path: str) -> object:
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise LookupError(f"bottleneck {path!r} cannot be imported: {error}") from error


def _checked(name: str, found: object) -> type[Bottleneck]:
    if not (isinstance(found, type) and issubclass(found, Bottleneck)):
        raise TypeError(f"{name!r} is not a subclass of edge.bottlenecks.Bottleneck")
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
