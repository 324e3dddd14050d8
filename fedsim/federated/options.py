"""Methods of plain values: from the options that a file gives to a method, and what is wrong with them."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import Field

from edge.prototypes import BITS
from fedsim.errors import FederationError, Problem
from fedsim.federated import method as methods
from fedsim.federated import pretraining
from fedsim.federated.method import FederatedMethod
from fedsim.federated.secure_aggregation import Masked
from fedsim.scenario_problems import complaint, unknown

__all__ = ["filled", "method_of", "option_problems"]

_AtLeastOne = Annotated[int, Field(ge=1)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Below = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]

#: What options of these names may be, in whatever method.
_BOUNDS: Mapping[str, Any] = {
    "batch_size": _AtLeastOne,
    "decay": Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)],
    "epochs": _AtLeastOne,
    "learning_rate": _Positive,
    "margin": _NotNegative,
    "momentum": _Below,
    "pull": _NotNegative,
    "calibration": _NotNegative,
    "server_batch_size": _AtLeastOne,
    "server_epochs": _AtLeastOne,
    "server_learning_rate": _Positive,
    "slots": _AtLeastOne,
    "threshold": _NotNegative,
}


def method_of(name: str, options: Mapping[str, Any]) -> FederatedMethod:
    """A method with these options, nested ones as mappings.

    ::

        method_of("fedproto", {"pull": 0.1, "training": {"epochs": 2}})

    What is not given is as the method has it, key by key: above, the rest of the training is FedProto's.
    ``masking`` is an option of every method whose updates are sums: its value has the options of
    :class:`~fedsim.federated.secure_aggregation.Masked`, but for the method.

    Raises:
        FederationError: an unknown method or option, or a value that is not allowed.
    """
    cls = methods.find(name)
    masking = options.get("masking")
    own = {key: value for key, value in options.items() if key != "masking"}
    if wrong := list(option_problems("", cls, own)):
        raise FederationError(f"method {name!r}: {'; '.join(map(str, wrong))}")
    made: FederatedMethod = filled(cls, own)
    if masking is None:
        return made
    return Masked(made, **_masking(name, masking))


def _masking(name: str, options: Any) -> dict[str, Any]:
    """The arguments of a masked method, but for the method.

    Raises:
        FederationError: they are none.
    """
    if not isinstance(options, Mapping):
        raise FederationError(f"method {name!r}: masking = {Problem.shown(options)}: has to be a mapping")
    wrong = [one for one in option_problems("masking", Masked, options) if one.key != "masking.method"]
    if "method" in options:
        wrong.append(Problem("masking.method", "is the method itself; leave the key out"))
    if wrong:
        raise FederationError(f"method {name!r}: {'; '.join(map(str, wrong))}")
    return dict(options)


def filled(cls: type, options: Mapping[str, Any]) -> Any:
    """A dataclass with these values for its fields, where they are known to be right."""
    given: dict[str, Any] = {}
    for one in fields(cls):
        if one.name not in options:
            continue
        value = options[one.name]
        nested = _nested(get_type_hints(cls)[one.name])
        if value is not None and nested:
            before = one.default if one.default_factory is MISSING else one.default_factory()
            value = _made(nested, value, before)
        given[one.name] = tuple(value) if isinstance(value, list) else value
    return cls(**given)


def option_problems(
    key: str, cls: type, options: Mapping[str, Any], *, given: Any = None
) -> Iterator[Problem]:
    """What is wrong with options, against the fields of a dataclass and their types.

    Args:
        key: where they stand in a file, dotted.
        cls: the dataclass.
        options: by name; those of a field that is a dataclass itself as a mapping.
        given: a value of the dataclass that has what is not among the options, where there is one.
    """
    hints = get_type_hints(cls)
    known = {one.name: one for one in fields(cls)}
    above = f"{key}." if key else ""
    for name, value in options.items():
        place, shown = f"{above}{name}", Problem.shown(value)
        if name not in known:
            yield Problem(place, unknown("key", name, known, listed="the keys here are"), shown)
            continue
        nested = _nested(hints[name])
        if not nested:
            if said := _complaint(name, hints[name], value):
                yield Problem(place, said, shown)
        elif isinstance(value, Mapping):
            one = known[name]
            before = one.default if one.default_factory is MISSING else one.default_factory()
            yield from _nested_problems(place, nested, value, before)
        elif value is not None or type(None) not in get_args(hints[name]):
            yield Problem(place, "has to be a mapping", shown)
    for name, one in known.items():
        required = one.default is MISSING and one.default_factory is MISSING
        if required and name not in options and not is_dataclass(given):
            yield Problem(f"{above}{name}", "is missing")


def _made(nested: Sequence[type], options: Mapping[str, Any], before: Any) -> Any:
    """A value of one of these dataclasses.

    Args:
        nested: one, or the kinds of pretraining.
        options: of it.
        before: what the rest of its fields is taken from.
    """
    if len(nested) > 1:
        return pretraining.from_options(options)
    known = {one.name: getattr(before, one.name) for one in fields(before)} if is_dataclass(before) else {}
    return nested[0](**{**known, **options})


def _nested_problems(
    key: str, nested: Sequence[type], options: Mapping[str, Any], before: Any
) -> Iterator[Problem]:
    """What is wrong with the options of a field: key by key, or else what the dataclass says of them all."""
    if len(nested) == 1 and (wrong := list(option_problems(key, nested[0], options, given=before))):
        yield from wrong
        return
    try:
        _made(nested, options, before)
    except FederationError as error:
        said = str(error).removeprefix(f"{key.rpartition('.')[2]}: ")
        yield Problem(key, said, Problem.shown(options))


def _complaint(name: str, annotation: Any, value: Any) -> str | None:
    """What is wrong with the value of a field: of its kind, or out of bounds."""
    if name == "bits" and value not in BITS:
        return "has to be a whole number, 1 to 16, 32 or 64"
    if (said := complaint(annotation, value)) is not None:
        return said
    return complaint(_BOUNDS[name], value) if name in _BOUNDS else None


def _nested(annotation: Any) -> list[type]:
    """The dataclasses of a type: one, or those of a union."""
    union = get_origin(annotation) in {Union, types.UnionType}
    parts = get_args(annotation) if union else (annotation,)
    return [part for part in parts if isinstance(part, type) and is_dataclass(part)]
