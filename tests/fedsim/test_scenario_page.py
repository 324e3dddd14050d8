"""docs/scenario.md against the schema: every key, its default, and examples that load."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedsim.scenario import Scenario, load

PAGE = (Path(__file__).parents[2] / "docs" / "scenario.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
#: The rows of the tables of keys: key, type, default, what is allowed, what it does.
ROWS = {
    key: cells
    for key, *cells in re.findall(r"^\| `(\S+)` \| (.+?) \| (.+?) \|(.*?)\| (.+) \|$", PAGE, re.MULTILINE)
}
REQUIRED = object()


def fields(schema: dict[str, Any], root: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value, dotted, with its default."""
    for name, whole in schema["properties"].items():
        key, default = f"{above}{name}", whole.get("default", REQUIRED)
        part = next((one for one in whole.get("anyOf", []) if one.get("type") != "null"), whole)
        inner = part.get("items", part)
        if "$ref" in inner:
            listed = inner is not part
            if listed or default is None:
                yield key, default
            section = root["$defs"][inner["$ref"].rpartition("/")[2]]
            yield from fields(section, root, f"{key}.N." if listed else f"{key}.")
        else:
            yield key, default


SCHEMA = Scenario.model_json_schema()
FIELDS = dict(fields(SCHEMA, SCHEMA))


def test_every_section_of_the_schema_is_reached() -> None:
    names = {name for section in SCHEMA["$defs"].values() for name in section["properties"]}
    assert names <= {part for key in FIELDS for part in key.split(".")}
    assert len(FIELDS) > 25


@pytest.mark.parametrize("key", FIELDS)
def test_every_key_is_documented_with_its_default(key: str) -> None:
    _, default, _, meaning = ROWS[key]
    if FIELDS[key] is REQUIRED:
        assert default == "required"
    else:
        assert yaml.safe_load(default.strip("`")) == FIELDS[key]
    assert len(meaning) > 8 or meaning == "see below"


def test_no_key_is_documented_that_there_is_not() -> None:
    assert set(ROWS) == set(FIELDS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_scenario(example: str, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(example)
    assert load(tmp_path / "example.yaml").devices


def test_overrides_of_the_page_work(tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(EXAMPLES[0])
    overrides = re.findall(r"`--set '?(\S+?=[^`'A-Z]+)'?`", PAGE)
    assert len(overrides) >= 6
    for override in overrides:
        load(
            tmp_path / "example.yaml",
            [override, *(["model.bottleneck.beta=1"] if "null" in override else [])],
        )
