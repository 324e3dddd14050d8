"""Presets by name, a user's own files, and what is said of those that are wrong."""

from pathlib import Path

import pytest

from fedsim.errors import HardwareError
from fedsim.hardware import find_device, find_link, find_radio, quantities, radio_of_link, unverified
from fedsim.hardware.models import roofline_of

BOARD = """
title = "My board"

[default]
source = "my meter"
how = "measured"
trust = "B"
verified = true

[sources]
"my meter" = "USB meter, ten minutes on 3 March"

[compute]
overhead = {value = 1.5, unit = "ms"}
rate = {value = 4, unit = "GMAC/s", range = [2, 6], trust = "C"}

[power]
idle = {value = 900, unit = "mW"}
active = {value = 3.1, unit = "W"}
"""
LINK = """
title = "My link"
sharing = "fifo"
radio = "my-radio.toml"

[default]
source = "contract"
how = "datasheet"
trust = "C"
verified = true

[sources]
contract = "what the operator promises"

[up]
trace = "drive.csv"
delay = {value = 20, unit = "ms"}

[down]
rate = {value = 10, unit = "Mbit/s"}
"""
RADIO = """
kind = "wifi"
title = "My radio"

[sources]
meter = "USB meter"

[active]
power = {value = 1, unit = "W", source = "meter", how = "measured", trust = "B", verified = true}
up_per_rate = {value = 5, unit = "mW/Mbps", source = "meter", how = "measured", trust = "B", verified = true}
down_per_rate = {value = 5, unit = "nJ/bit", source = "meter", how = "measured", trust = "B", verified = true}
"""


def written(folder: Path, text: str, name: str = "board.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(file: Path) -> str:
    with pytest.raises(HardwareError) as caught:
        find_device(file.name, file.parent)
    return str(caught.value)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    device = find_device("board.toml", written(tmp_path, BOARD).parent)
    assert (device.name, str(device), device.file) == ("board", "device board", tmp_path / "board.toml")
    assert roofline_of(device).macs_per_s == 4e9
    found = dict(quantities(device))
    assert list(found) == ["compute.overhead", "compute.rate", "power.idle", "power.active"]
    assert {quantity.source for quantity in found.values()} == {"my meter"}
    assert found["compute.rate"].trust == "C"
    assert found["power.idle"].trust == "B"
    assert unverified(device) == []
    assert find_device(str(tmp_path / "board.toml")) == device


def test_a_link_names_its_trace_and_its_radio_from_where_it_lies(tmp_path: Path) -> None:
    written(tmp_path, LINK, "link.toml")
    written(tmp_path, RADIO, "my-radio.toml")
    with pytest.raises(HardwareError, match=r'link.toml: up.trace = "drive.csv": is no file'):
        find_link("link.toml", tmp_path)
    written(tmp_path, "0,5\n1,8\n", "drive.csv")
    link = find_link("link.toml", tmp_path)
    radio = radio_of_link(link)
    assert radio is not None
    assert radio.title == "My radio"


def test_a_link_whose_radio_is_unknown_is_named(tmp_path: Path) -> None:
    written(
        tmp_path, LINK.replace("my-radio.toml", "lte-2013").replace('trace = "drive.csv"', ""), "link.toml"
    )
    link = find_link("link.toml", tmp_path)
    with pytest.raises(HardwareError, match=r'link.toml: radio = "lte-2013": unknown radio; did you mean'):
        radio_of_link(link)


@pytest.mark.parametrize(
    ("find", "name", "complaint"),
    [
        (find_device, "raspbery-pi-4", "unknown device; did you mean 'raspberry-pi-4'? give the path of a"),
        (find_radio, "zigbee", "unknown radio; give the path of a .toml file, or one of 3g-2012, 4g-2021"),
        (find_link, "4g-2020", "unknown link; did you mean '4g-2021'?"),
        (
            find_link,
            "absent.toml",
            "absent.toml: cannot be read: No such file or directory; expected is a TOML",
        ),
    ],
)
def test_names_that_are_unknown(find, name: str, complaint: str) -> None:
    with pytest.raises(HardwareError) as caught:
        find(name)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("idle =", "idel =", "unknown key; did you mean 'idle'? the keys here are idle, active, sleep"),
        ('"mW"', '"mw"', "power.idle.unit = \"mw\": unknown unit; did you mean 'mW'?"),
        ('"mW"', '"ms"', "is a time, in ms; has to be a power, in W, mW or uW"),
        ("range = [2, 6]", "range = [5, 6]", "the range 5 to 6 has to contain the value, 4"),
        ("900", "9000", "active, 3.1 W, includes idle, 9000 mW, and has to be at least as much"),
        ('trust = "B"', 'trust = "F"', 'default.trust = "F": F is a number that is not to be used'),
        ('trust = "B"\n', "", "compute.overhead.trust: is missing; has to be text, matching ^[A-E]"),
        ('source = "my meter"', 'source = "my metre"', "unknown source; did you mean 'my meter'?"),
        ('trust = "B"', 'value = 3\ntrust = "B"', "default.value = 3: unknown key;"),
        (
            "[compute]",
            "[[compute]]",
            "has to be a mapping with the keys overhead, layer_overhead, rate, memory_rate",
        ),
        ("{value = 4,", "{", "compute.rate.value: is missing; has to be a number, at least 0"),
        ("value = 4,", "value = inf,", "compute.rate.value = Infinity: has to be a number, at least 0"),
        ('value = 4, unit = "GMAC/s", range = [2, 6]', 'value = 0, unit = "GMAC/s"', "has to be more than 0"),
        ('title = "My board"', "title = 3", "title = 3: has to be text"),
        ('title = "My board"', "", "title: is missing"),
        ('title = "My board"', 'title = "My board"\nname = "board"', 'name = "board": unknown key'),
        ('title = "My board"', "title = ", "not valid TOML: Invalid value (at line 2"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    assert before in BOARD
    message = refusal(written(tmp_path, BOARD.replace(before, after, 1)))
    assert message.startswith(f"{tmp_path / 'board.toml'}: ")
    assert complaint in message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read: not UTF-8 text" in refusal(tmp_path / "board.toml")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (
            'kind = "wifi"',
            'kind = "wlan"',
            'kind = "wlan": has to be one of cellular, wifi, ethernet, lora, ble',
        ),
        ('kind = "wifi"', "", "kind: is missing; has to be one of cellular"),
        ('kind = "wifi"', 'kind = ["wifi"]', 'kind = ["wifi"]: has to be one of cellular'),
        (
            'kind = "wifi"',
            'kind = "ble"',
            "interval: is missing; has to be a mapping with the keys value, unit",
        ),
        (
            "[active]",
            '[active]\nbaseline = {value = 2, unit = "W", source = "meter", how = "measured", trust = "B", '
            "verified = true}",
            "baseline, 2 W, is held in power and cannot be above it",
        ),
    ],
)
def test_what_is_wrong_with_a_radio(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    written(tmp_path, RADIO.replace(before, after, 1), "radio.toml")
    with pytest.raises(HardwareError) as caught:
        find_radio("radio.toml", tmp_path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('sharing = "fifo"', 'sharing = "fair"', "has to be one of alone, processor, fifo, slotted"),
        ("[down]", '[down]\ntrace = "drive.csv"', "has a rate and a trace; has to be one of them"),
        (
            "[down]",
            '[down]\njitter = {value = 5, unit = "ms"}',
            "jitter, 5 ms, has to be at most the delay, none",
        ),
        ("[down]", '[down]\nloss = {value = 100, unit = "%"}', "is 100%; has to be at most 0.999"),
        ("[down]", "[dwon]", "dwon"),
    ],
)
def test_what_is_wrong_with_a_link(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    written(tmp_path, "0,5\n1,8\n", "drive.csv")
    written(tmp_path, LINK.replace(before, after, 1), "link.toml")
    with pytest.raises(HardwareError) as caught:
        find_link("link.toml", tmp_path)
    assert complaint in str(caught.value)
