"""What ``fedsim list devices|radios|links`` shows."""

import pytest
from typer.testing import CliRunner

from fedsim.cli import app
from fedsim.hardware import unverified
from fedsim.hardware.listing import KINDS, figures


def listed(kind: str) -> str:
    result = CliRunner().invoke(app, ["list", kind])
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
