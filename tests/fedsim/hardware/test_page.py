"""docs/hardware.md against the schemas: its examples load, its tables have every key and every unit."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fedsim.hardware import Device, Link, find_device, find_link, find_radio
from fedsim.hardware.quantity import UNITS, Quantity
from fedsim.hardware.radio_presets import RADIOS

PAGE = (Path(__file__).parents[3] / "docs" / "hardware.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def section(title: str) -> str:
    """Its text, without examples."""
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def keys(model: type[BaseModel]) -> Iterator[str]:
    """The last part of each key of a schema, and of what stands in it."""
    for name, field in model.model_fields.items():
        yield name
        yield from inner(field.annotation)


def inner(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is not Quantity:
            yield from keys(annotation)
    else:
        for part in getattr(annotation, "__args__", ()):
            yield from inner(part)


@pytest.mark.parametrize(
    ("text", "find"), [*zip(EXAMPLES, (find_radio, find_device, find_link), strict=True)]
)
def test_the_examples_load(text: str, find: Any, tmp_path: Path) -> None:
    (tmp_path / "example.toml").write_text(text, encoding="utf-8")
    assert find("example.toml", tmp_path).title


@pytest.mark.parametrize(
    ("title", "models"),
    [("Devices", [Device]), ("Radios", sorted(set(RADIOS.values()), key=str)), ("Links", [Link])],
)
def test_every_key_is_there(title: str, models: list[type[BaseModel]]) -> None:
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", section(title)))))
    common = {"title", "description", "sources"}
    for model in models:
        assert set(keys(model)) - words <= common, model
    for kind in RADIOS:
        assert f"`{kind}`" in section("Radios")


def test_every_part_of_a_number_and_every_unit_is_there() -> None:
    text = section("A number and where it is from")
    assert set(Quantity.model_fields) <= set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert set(re.findall(r"`([^`]+)`", text)) >= set(UNITS)


def test_what_it_shows_in_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(code, "hardware.md", "exec"), found)
    assert found["radio"].tail == (pytest.approx((10.2, 0.178)),)
    assert found["spec"].up.rate_bps == 20e6
    assert "link 4g-2021: down.rate 50 Mbit/s is not verified" in capsys.readouterr().out
