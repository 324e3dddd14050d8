"""The text of a scenario: YAML to plain values, and ``key=value`` overrides of them."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["SourceError", "lookup", "parse_override", "parse_yaml", "read", "with_value"]

Document = dict[str, Any]


class SourceError(ValueError):
    """Text that does not say what it should. The message names the place and what is allowed."""


class _Loader(yaml.SafeLoader):
    """YAML with JSON's values only: no dates, ``1e-3`` is a number, a key stands once and is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own name and form)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            line = key_node.start_mark.line + 1
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise SourceError(f"line {line}: the key {key!r} is not text; a key has to be a word")
            if key in seen:
                raise SourceError(f"line {line}: the key {key!r} stands there twice; it may stand once")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.2's floats; PyYAML's own (YAML 1.1) read 1e-3 as text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$"
        r"|[-+]?[0-9]+[eE][-+]?[0-9]+$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """The value that a YAML text stands for: mappings, lists, text, numbers, booleans and None.

    Raises:
        SourceError: no YAML, a key given twice, or a value that JSON does not have.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        json.dumps(value, ensure_ascii=False).encode()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SourceError(f"{line}not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise SourceError(f"not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SourceError("not valid YAML: nested too deeply") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        allowed = "allowed are mappings, lists, text, numbers, true, false and null"
        raise SourceError(f"a value of no plain kind ({error}); {allowed}") from None
    return value


def read(path: Path) -> Document:
    """The document of a scenario file.

    Raises:
        SourceError: a file that cannot be read, no YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}; expected is a YAML file") from None
    except UnicodeDecodeError:
        raise SourceError("cannot be read: not UTF-8 text; expected is a YAML file") from None
    document = parse_yaml(text)
    if not isinstance(document, dict):
        kind = "empty" if document is None else f"a {type(document).__name__}"
        raise SourceError(f"is {kind}; a scenario is a mapping of keys to values")
    return document


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of ``key=value``; the value is YAML.

    Raises:
        SourceError: no ``=``, an empty key or part of one, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise SourceError(f"{text!r} is not of the form key=value, such as model.bottleneck.beta=0.1")
    try:
        return key, parse_yaml(value)
    except SourceError as error:
        raise SourceError(f"the value of {text!r}: {error}") from None


def with_value(document: Mapping[str, Any], key: str, value: Any) -> Document:
    """A copy of ``document`` in which the dotted ``key`` has ``value``.

    A number counts the entries of a list from 0. Mappings on the way that are not there are made.
    What follows ``sweep.``, or in a list of grids ``sweep.N.``, is one key, dots and all.

    Raises:
        SourceError: the key leads through something that is neither mapping nor list, or past a list's end.
    """
    changed: Document = _replaced(document, _parts(key), value, ())
    return changed


def lookup(document: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at a dotted key, or ``default`` where there is none."""
    found: Any = document
    for part in _parts(key):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif _is_list(found) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return default
    return found


def _parts(key: str) -> tuple[str, ...]:
    first, dot, rest = key.partition(".")
    if first != "sweep" or not dot:
        return tuple(key.split("."))
    number, dot, swept = rest.partition(".")
    return (first, number, swept) if dot and number.isdigit() else (first, rest)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _replaced(node: Any, parts: tuple[str, ...], value: Any, above: tuple[str, ...]) -> Any:
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    here = (*above, part)
    if node is None:
        node = {}
    if isinstance(node, Mapping):
        return {**node, part: _replaced(node.get(part), rest, value, here)}
    where = ".".join(above)
    if _is_list(node):
        if not (part.isascii() and part.isdigit() and int(part) < len(node)):
            allowed = f"0 to {len(node) - 1}" if node else "none, it is empty"
            raise SourceError(f"{where} is a list and has no entry {part!r}; its entries are {allowed}")
        index = int(part)
        return [*node[:index], _replaced(node[index], rest, value, here), *node[index + 1 :]]
    raise SourceError(f"{where} is {json.dumps(node, default=str)} and holds no key {part!r}")
