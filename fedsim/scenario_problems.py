"""From what pydantic found wrong in a document to problems that name key, value and what is allowed."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from fedsim.errors import Problem

__all__ = ["allowed", "complaint", "problems_of", "unknown"]

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_Schema = Mapping[str, Any]


def unknown(kind: str, name: str, known: Iterable[str], *, listed: str = "known are") -> str:
    """The message for a name that is not known: the closest ones, and all there are."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind}{hint} {listed} {', '.join(names) if names else 'none'}"


def complaint(annotation: Any, value: Any) -> str | None:
    """What is wrong with a value of an option, as far as its annotation says."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return None
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(strict=True))
        schema = adapter.json_schema()
    except PydanticUserError:  # a class that pydantic knows nothing of
        return None
    try:
        adapter.validate_json(json.dumps(value))
    except ValidationError:
        return f"has to be {allowed(schema, schema)}"
    return None


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """A problem for each thing that is wrong in a document.

    What only follows from another problem is left out: a missing key whose misspelt form stands beside
    it, and a list or mapping that is wrong for what is wrong within it.
    """
    root = model.model_json_schema()
    found = error.errors(include_url=False)
    strangers: dict[tuple[int | str, ...], list[str]] = {}
    for item in found:
        if item["type"] == "extra_forbidden":
            strangers.setdefault(item["loc"][:-1], []).append(str(item["loc"][-1]))
    problems = []
    locs = [item["loc"] for item in found]
    for item in found:
        loc, kind = item["loc"], item["type"]
        if any(len(other) > len(loc) and other[: len(loc)] == loc for other in locs):
            continue
        schema = _schema_at(root, loc)
        key = ".".join(map(str, loc))
        if kind == "missing":
            if difflib.get_close_matches(str(loc[-1]), strangers.get(loc[:-1], [])):
                continue
            problems.append(Problem(key, f"is missing; has to be {allowed(schema, root)}"))
            continue
        if kind == "extra_forbidden":
            keys = _schema_at(root, loc[:-1]).get("properties", {})
            message = unknown("key", str(loc[-1]), keys, listed="the keys here are")
        elif kind in {"value_error", "assertion_error"}:
            message = item["msg"].partition(", ")[2]
        elif schema:
            message = f"has to be {allowed(schema, root)}"
        else:
            message = item["msg"]
        problems.append(Problem(key, message, Problem.shown(item["input"])))
    return problems


def _schema_at(root: _Schema, loc: Sequence[int | str]) -> _Schema:
    """The JSON schema of the value at ``loc``; empty where the schema says nothing about it."""
    node = root
    for part in loc:
        node = _resolved(node, root)
        if isinstance(part, int):
            prefix = node.get("prefixItems", ())
            node = prefix[part] if part < len(prefix) else node.get("items", {})
        else:
            extra = node.get("additionalProperties")
            node = node.get("properties", {}).get(part, extra if isinstance(extra, Mapping) else {})
    return _resolved(node, root)


def _resolved(node: _Schema, root: _Schema) -> _Schema:
    """A schema with its reference followed, and of an optional value the schema of the value."""
    if "$ref" in node:
        return _resolved(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    choices = [choice for choice in node.get("anyOf", ()) if choice.get("type") != "null"]
    return _resolved(choices[0], root) if len(choices) == 1 else node


def allowed(schema: _Schema, root: _Schema) -> str:
    """What a schema allows, in words."""
    schema = _resolved(schema, root)
    kind = schema.get("type")
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if kind == "object":
        keys = schema.get("properties")
        return f"a mapping with the keys {', '.join(keys)}" if keys else "a mapping"
    if kind == "array":
        return _allowed_list(schema, root)
    text = _KINDS.get(str(kind), "another value")
    bounds = [f"{words} {schema[name]}" for name, words in _BOUNDS.items() if name in schema]
    if "pattern" in schema:
        bounds.append(f"matching {schema['pattern']}")
    return ", ".join([text, " and ".join(bounds)]) if bounds else text


def _allowed_list(schema: _Schema, root: _Schema) -> str:
    items = schema.get("prefixItems") or [schema.get("items", {})]
    each = allowed(items[0], root)
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if least == most:
        return f"a list of {least} entries, each {each}"
    return f"a list of {f'at least {least} ' if least else ''}entries, each {each}"
