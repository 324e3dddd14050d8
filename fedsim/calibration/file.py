"""A device as a file: what :func:`fedsim.hardware.find_device` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from fedsim.hardware.presets import Device
from fedsim.hardware.quantity import Quantity

__all__ = ["to_toml"]


def to_toml(device: Device) -> str:
    """The text of the file that this device is read from.

    A key that has its default is left out; every number stands on a line of its own, with its source.
    """
    return "\n".join(_table("", device)).lstrip("\n") + "\n"


def _table(prefix: str, table: BaseModel | Mapping[str, object]) -> Iterator[str]:
    """The lines of a table: its own keys first, then the tables in it."""
    inner: list[tuple[str, BaseModel | Mapping[str, object]]] = []
    lines: list[str] = []
    for key, value in _items(table):
        if isinstance(value, Quantity):
            lines.append(f"{_key(key)} = {value.toml()}")
        elif isinstance(value, BaseModel | Mapping):
            inner.append((f"{prefix}.{_key(key)}".lstrip("."), value))
        else:
            lines.append(f"{_key(key)} = {_text(value)}")
    if lines:
        yield from ([f"\n[{prefix}]"] if prefix else []) + lines
    for name, value in inner:
        yield from _table(name, value)


def _items(table: BaseModel | Mapping[str, object]) -> Iterator[tuple[str, object]]:
    if isinstance(table, Mapping):
        yield from table.items()
        return
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if value != field.get_default(call_default_factory=True):
            yield name, value


def _key(key: str) -> str:
    """Bare where TOML allows it."""
    return key if key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key) else _text(key)


def _text(value: object) -> str:
    """A text, or a list of texts: TOML writes them as JSON does, but for the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
