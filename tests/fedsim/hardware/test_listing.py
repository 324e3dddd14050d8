"""What ``fedsim list devices|radios|links`` shows."""

import io
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedsim.cli import app
from fedsim.hardware import unverified
from fedsim.hardware.listing import KINDS, figures, sheet

ALL = {(kind, name): preset for kind, presets in KINDS.items() for name, preset in presets().items()}
HEADINGS = "key value how trust verified source"
IN_A_TABLE = {True: "yes", "second-hand": "second-hand", False: "no *"}
IN_A_LINE = {True: "verified", "second-hand": "second-hand", False: "not verified *"}
BOARD = """
title = "My board [of two]"
description = "On my desk."
runtime = "torch, one core"

[default]
source = "my [own] meter"
how = "measured"
trust = "B"
verified = true

[sources]
"my [own] meter" = "USB meter, [bold] ten minutes each"

[power]
idle = {value = 900, unit = "mW"}
active = {value = 3.1, unit = "W", range = [2.9, 3.5], verified = false, where = "line [/red] 3"}

[networks.a-network-with-a-name-that-takes-more-than-the-half-of-eighty-columns]
time = {value = 1, unit = "s"}
"""


def listed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["list", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_each_preset_has_a_line_and_the_unverified_a_mark(kind: str) -> None:
    output = listed(kind)
    lines = {line.split(" ")[0]: line.rstrip() for line in output.splitlines() if not line.startswith(" ")}
    for name, preset in KINDS[kind]().items():
        assert preset.title in lines[name]
        assert lines[name].endswith(" *") == bool(unverified(preset))
    assert f"verified = false in {preset.file.parent}" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        (
            "devices",
            "raspberry-pi-4",
            "10 GMAC/s (1.5 to 29) behind 4 ms (2 to 8); 2.8 W (2.57 to 3.04) idle, "
            "6.4 W (5.82 to 6.44) computing; 10 networks measured",
        ),
        ("devices", "server-8core", "no rate; no powers"),
        (
            "radios",
            "5g-mmwave-2021",
            "3.27 W active, and 9.422 mW/Mbps up; promotion 1907 ms; tail 10.5 s at 1092 mW",
        ),
        ("radios", "lora", "SF7 (7 to 12), 125 kHz, duty cycle 1%; 44 mA (24 to 44) at 3.3 V while it sends"),
        (
            "links",
            "lte-2012",
            "up 5.5 Mbit/s, 35 ms; down 24.3 Mbit/s, 35 ms; shared (processor); radio lte-2012",
        ),
        ("links", "lora-sf9", "one for each device; radio lora"),
    ],
)
def test_main_figures(kind: str, name: str, line: str) -> None:
    assert figures(KINDS[kind]()[name]) == line
    assert line.split(";", maxsplit=1)[0] in listed(kind)


def shown(kind: str, name: str, columns: int) -> str:
    """As a terminal of so many columns shows it."""
    output = io.StringIO()
    Console(file=output, width=columns).print(sheet(kind, name))
    return output.getvalue()


def squeezed(text: str) -> str:
    """Without what differs by where lines are broken."""
    return "".join(text.split())


def numbers(value: Any, *keys: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number that a file has, with its dotted key."""
    if isinstance(value, dict) and "value" in value:
        yield ".".join(keys), value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(inner, *keys, str(key))


def said(key: str, number: dict[str, Any], table: bool) -> str:
    unit = {"1": "", "%": "%"}.get(number["unit"], f" {number['unit']}")
    bounds = " ({:.6g} to {:.6g})".format(*number["range"]) if "range" in number else ""
    source = f"{number['source']}, {number['where']}" if "where" in number else number["source"]
    how, trust, verified = number["how"], number["trust"], number["verified"]
    if table:
        origin = f"{how} {trust} {IN_A_TABLE[verified]} {source}"
    else:
        origin = f"{how}, trust {trust}, {IN_A_LINE[verified]}: {source}"
    return f"{key} {number['value']:.6g}{unit}{bounds} {origin}"


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_number_of_a_file_is_shown_whole(kind: str, name: str, columns: int) -> None:
    preset = ALL[kind, name]
    document = tomllib.loads(preset.file.read_text(encoding="utf-8"))
    default = document.pop("default", {})
    output = shown(kind, name, columns)
    table = squeezed(HEADINGS) in squeezed(output)
    assert table or columns == 80
    for key, number in numbers(document):
        assert squeezed(said(key, default | number, table)) in squeezed(output), key
    for source, citation in document.get("sources", {}).items():
        assert squeezed(citation) in squeezed(output), source
    for text in ("title", "description", "runtime", "radio", "kind", "sharing"):
        assert squeezed(document.get(text, "")) in squeezed(output), text
    *lines, file = output.splitlines()
    assert max(map(len, lines)) <= columns
    assert file == str(preset.file)
    assert output.count("no *" if table else "not verified *") == len(unverified(preset))


def test_numbers_of_a_table_stand_in_lines_that_can_be_compared() -> None:
    lines = listed("links", "lte-2012").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("key"))
    assert [line.rstrip() for line in lines[at : at + 7]] == [
        "key         value        how       trust  verified     source",
        "radio       lte-2012",
        "sharing     processor",
        "up.rate     5.5 Mbit/s   measured  B      second-hand  Kang et al. 2017",
        "up.delay    35 ms        assumed   D      no *         assumption",
        "down.rate   24.3 Mbit/s  measured  B      second-hand  Kang et al. 2017",
        "down.delay  35 ms        assumed   D      no *         assumption",
    ]


def test_what_has_no_numbers_says_so() -> None:
    assert "It has no numbers." in listed("devices", "server-8core")
    assert "It has no numbers." not in listed("devices", "esp32-s3")


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_a_file_of_the_users_is_shown_likewise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("board.toml").write_text(BOARD)
    output = shown("devices", "board.toml", columns)
    assert max(map(len, output.splitlines())) <= columns
    document = tomllib.loads(BOARD)
    for key, number in numbers(document):
        assert squeezed(said(key, document["default"] | number, table=False)) in squeezed(output)
    for text in ("My board [of two]", "On my desk.", "torch, one core", *document["sources"].values()):
        assert squeezed(text) in squeezed(output)
    if columns == 140:
        assert listed("devices", "board.toml") == output
        assert output.endswith("\nboard.toml\n")
