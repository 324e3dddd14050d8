"""Devices, radios and links by name, and those that a user describes in a file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from fedsim.errors import HardwareError, Problem
from fedsim.hardware.presets import Device, Link, Preset, quantities
from fedsim.hardware.quantity import Provenance
from fedsim.hardware.radio_presets import RADIOS, Radio
from fedsim.scenario_problems import problems_of, unknown

__all__ = ["devices", "find_device", "find_link", "find_radio", "links", "radio_of_link", "radios"]

_SHIPPED: Final = Path(__file__).parent
#: What a file may say once for all of its numbers.
_DEFAULT = "default"

P = TypeVar("P", bound=Preset)


def devices() -> Mapping[str, Device]:
    """The devices that fedsim knows, by name."""
    return MappingProxyType({name: find_device(name) for name in _names("devices")})


def radios() -> Mapping[str, Radio]:
    """The radios that fedsim knows, by name."""
    return MappingProxyType({name: find_radio(name) for name in _names("radios")})


def links() -> Mapping[str, Link]:
    """The links that fedsim knows, by name."""
    return MappingProxyType({name: find_link(name) for name in _names("links")})


def find_device(name: str, folder: Path | str = ".") -> Device:
    """A device by its name, or by the path of a TOML file.

    Args:
        name: one of :func:`devices`, or a path that ends in ``.toml``.
        folder: what such a path is relative to: where the file lies that names it.

    Raises:
        HardwareError: unknown, or the file is wrong; names file, key, value and what is allowed.
    """
    return _read_device(_file("devices", "device", name, folder))


def find_radio(name: str, folder: Path | str = ".") -> Radio:
    """A radio by its name, or by the path of a TOML file; as :func:`find_device`."""
    return _read_radio(_file("radios", "radio", name, folder))


def find_link(name: str, folder: Path | str = ".") -> Link:
    """A link by its name, or by the path of a TOML file; as :func:`find_device`."""
    return _read_link(_file("links", "link", name, folder))


def radio_of_link(link: Link) -> Radio | None:
    """The radio that a link names, if it names one.

    Raises:
        HardwareError: it is unknown, or its file is wrong.
    """
    if link.radio is None:
        return None
    try:
        return find_radio(link.radio, link.file.parent)
    except HardwareError as error:
        raise HardwareError(f"{link.file}: radio = {Problem.shown(link.radio)}: {error}") from None


@cache
def _names(kind: str) -> tuple[str, ...]:
    def by_number(stem: str) -> list[str | int]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", stem)]

    return tuple(sorted((path.stem for path in (_SHIPPED / kind).glob("*.toml")), key=by_number))


def _file(kind: str, word: str, name: str, folder: Path | str) -> Path:
    if name in _names(kind):
        return _SHIPPED / kind / f"{name}.toml"
    if not name.endswith(".toml"):
        listed = "give the path of a .toml file, or one of"
        raise HardwareError(f"{unknown(word, name, _names(kind), listed=listed)}")
    return Path(folder) / name


def _read_device(file: Path) -> Device:
    return _checked(Device, file, _document(file))


def _read_radio(file: Path) -> Radio:
    document = _document(file)
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in RADIOS:
        missing = "kind" not in document
        message = f"{'is missing; ' if missing else ''}has to be one of {', '.join(RADIOS)}"
        raise _error(file, Problem("kind", message, None if missing else Problem.shown(kind)))
    return _checked(RADIOS[kind], file, document)


def _read_link(file: Path) -> Link:
    link = _checked(Link, file, _document(file))
    for way in ("up", "down"):
        trace = getattr(link, way).trace
        if trace is not None and not (file.parent / trace).is_file():
            message = "is no file; a trace is named relative to the link's file"
            raise _error(file, Problem(f"{way}.trace", message, Problem.shown(trace)))
    return link


def _document(file: Path) -> dict[str, Any]:
    """The content of a file, with its defaults put into every quantity."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise HardwareError(f"{file}: cannot be read: {error.strerror}; expected is a TOML file") from None
    except UnicodeDecodeError:
        raise HardwareError(f"{file}: cannot be read: not UTF-8 text; expected is a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise HardwareError(f"{file}: not valid TOML: {error}") from None
    default = document.pop(_DEFAULT, {})
    try:
        said = Provenance.model_validate(default).model_dump(exclude_none=True)
    except ValidationError as error:
        problems = problems_of(error, Provenance)
        raise _error(
            file, *(Problem(f"{_DEFAULT}.{p.key}".rstrip("."), p.message, p.value) for p in problems)
        ) from None
    for table in _quantities(document):
        for key, value in said.items():
            table.setdefault(key, value)
    return document


def _quantities(value: Any) -> Iterator[dict[str, Any]]:
    """The tables that look like quantities."""
    if isinstance(value, dict):
        if "unit" in value or "value" in value:
            yield value
        else:
            for inner in value.values():
                yield from _quantities(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _quantities(inner)


def _checked(model: type[P], file: Path, document: dict[str, Any]) -> P:
    try:
        preset = model.model_validate(document)
    except ValidationError as error:
        raise _error(file, *problems_of(error, model)) from None
    preset._file = file
    strangers = [
        Problem(
            f"{key}.source",
            unknown("source", quantity.source, preset.sources),
            Problem.shown(quantity.source),
        )
        for key, quantity in quantities(preset)
        if quantity.source not in preset.sources
    ]
    if strangers:
        raise _error(file, *strangers)
    return preset


def _error(file: Path, *problems: Problem) -> HardwareError:
    return HardwareError("\n".join(f"{file}: {problem}" for problem in problems))
