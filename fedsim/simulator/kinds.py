"""Values that a scenario names by their kind, with options beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from fedsim.errors import SimulationError
from fedsim.scenario_problems import unknown

__all__ = ["first_lines", "made"]

T = TypeVar("T")


def first_lines(kinds: Mapping[str, type]) -> dict[str, str]:
    """Every kind's name, with the first line of its documentation."""
    return {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in kinds.items()}


def made(what: str, kinds: Mapping[str, type[T]], options: Mapping[str, Any]) -> T:
    """A value of one of these dataclasses.

    Args:
        what: it is, for messages.
        kinds: the dataclasses by name.
        options: ``kind``, and the fields of that; lists become tuples.

    Raises:
        SimulationError: an unknown kind or option, one that is missing, or a value that is not allowed.
    """
    given = {key: _frozen(value) for key, value in options.items()}
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise SimulationError(f"{what}: {kind!r} is an {unknown('kind', str(kind), kinds)}")
    known = {one.name: one for one in fields(kinds[kind])}  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in known:
            raise SimulationError(f"{what}: {name!r} is an {unknown(f'option of {kind}', name, known)}")
        if isinstance(value, str):
            raise SimulationError(f"{what}: {name} is {value!r}, which is a text")
    for name, one in known.items():
        if name not in given and one.default is MISSING:
            raise SimulationError(f"{what}: {kind} needs {name}")
    try:
        return kinds[kind](**given)
    except (TypeError, ValueError) as error:
        raise SimulationError(f"{what}: {dict(options)} cannot be used: {error}") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
