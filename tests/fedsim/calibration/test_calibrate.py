"""A whole calibration, in a second: what stands in the file, never how long it took."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from fedsim.calibration import calibrate, table
from fedsim.calibration.file import to_toml
from fedsim.cli import app
from fedsim.errors import HardwareError, OutputError
from fedsim.hardware import Device, devices, find_device, quantities
from fedsim.hardware.compute import Layer
from fedsim.hardware.listing import figures
from fedsim.hardware.models import coding_of, power_of, roofline_of, serving_of, stages_of, table_of

from .meters import CpuMeter

SECONDS = 0.5


@pytest.fixture(scope="module")
def file(run_folder: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by the command."""
    out = tmp_path_factory.mktemp("written") / "board.toml"
    command = ["calibrate", str(run_folder), "--out", str(out), "--samples", str(samples)]
    result = CliRunner().invoke(app, [*command, "--seconds", str(SECONDS), "--name", 'My "board"', "--quiet"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{out}\n", "")
    assert [path.name for path in out.parent.iterdir()] == ["board.toml"]
    return out


@pytest.fixture(scope="module")
def device(file: Path) -> Device:
    return find_device(str(file))


def test_every_number_says_that_it_was_measured_here(device: Device) -> None:
    keys = dict(quantities(device))
    assert set(keys) == {
        "compute.overhead",
        "compute.layer_overhead",
        "compute.rate",
        "compute.memory_rate",
        *(f"coding.{way}.{part}" for way in ("encode", "decode") for part in ("fixed", "per_symbol")),
        "networks.whole.time",
        "networks.whole.work",
        *(
            f"splits.{name}.{key}"
            for name in ("plain", "split at 0.5")
            for key in (
                "head",
                "encode",
                *(f"{stage}.{one}" for stage in ("decode", "tail") for one in ("single", "fixed", "each")),
            )
        ),
    }
    assert device.title == 'My "board"'
    assert device.sources.keys() == {"fedsim calibrate"}
    assert "1 thread" in device.sources["fedsim calibrate"]
    assert "1 thread" in device.runtime
    for key, quantity in keys.items():
        assert quantity.source == "fedsim calibrate"
        assert quantity.verified is True
        if key != "networks.whole.work":
            assert quantity.how == "measured"
            assert quantity.trust in {"B", "C"}
            assert quantity.range is not None
    assert "5 images of digits.safetensors" in (device.splits["plain"].head.where or "")


def test_it_makes_the_models_that_fedsim_predicts_with(device: Device) -> None:
    roofline = roofline_of(device)
    small, large = ([Layer(macs, 1000)] for macs in (10**6, 10**9))
    assert roofline.layer_s > 0
    assert 0 <= roofline.seconds([]) < roofline.seconds(small) < roofline.seconds(large)
    low, high = roofline.seconds_range(large)
    assert low < roofline.seconds(large) < high
    coders = coding_of(device)
    assert coders is not None
    for coder in coders:
        assert coder.seconds(100_000) > coder.seconds(24) >= 0
    for name in ("plain", "split at 0.5"):
        assert sorted(stages_of(device, name).times) == ["decode", "encode", "head", "tail"]
        serving = serving_of(device, name)
        assert serving.seconds(32) >= serving.seconds(1) > 0
    assert table_of(device).seconds("whole") > 0
    assert "a symbol to encode" in figures(device)
    assert figures(device).endswith("1 network measured; 2 split networks measured")


def test_without_a_meter_there_is_no_power_but_the_reason(tmp_path: Path) -> None:
    device = calibrate(tmp_path / "bare.toml", seconds=SECONDS, meters=[])
    assert device.power is None
    assert device.splits == device.networks == {}
    assert device.description.endswith("No powers: no meter was given.")


def test_with_a_meter_there_are_powers_and_threads_are_as_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        device = calibrate(tmp_path / "new" / "metered.toml", seconds=SECONDS, meters=[CpuMeter()])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    powers = power_of(device)
    assert powers.active_w > powers.base_w >= 2.99
    assert device.power is not None
    assert device.power.active.where == (
        "the processor, without the rest of the machine; a convolution computed without a pause"
    )
    assert "No powers" not in device.description
    assert "float32, 1 thread, " in device.runtime


@pytest.mark.parametrize("known", devices().values(), ids=str)
def test_a_file_says_what_its_device_does(known: Device, tmp_path: Path) -> None:
    (tmp_path / "again.toml").write_text(to_toml(known), encoding="utf-8")
    assert find_device("again.toml", tmp_path).model_dump() == known.model_dump()


def test_names_that_toml_writes_otherwise(tmp_path: Path, device: Device) -> None:
    odd = 'a "b".c\\d\n\x7fé'
    renamed = device.model_copy(update={"splits": {odd: device.splits["plain"]}, "description": odd})
    (tmp_path / "odd.toml").write_text(to_toml(renamed), encoding="utf-8")
    assert find_device("odd.toml", tmp_path).model_dump() == renamed.model_dump()


def test_the_table_has_a_row_for_each_number(device: Device) -> None:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(table(device))
    shown = capture.get()
    for key, quantity in quantities(device):
        assert f"{key} " in shown
        assert str(quantity) in shown


def test_what_is_there_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "kept.toml"
    out.write_text("kept")
    with pytest.raises(OutputError, match=r"kept.toml exists already; --force replaces it"):
        calibrate(out, seconds=SECONDS, meters=[])
    assert out.read_text() == "kept"
    assert calibrate(out, seconds=0.01, meters=[], force=True, title="New").title == "New"
    assert find_device(str(out)).title == "New"


def test_what_cannot_be_done_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name, complaint in (("board", "ends in .toml"), ("folder.toml", "exists already and is no file")):
        with pytest.raises(OutputError, match=complaint):
            calibrate(tmp_path / name, force=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        calibrate(tmp_path / "file" / "board.toml")
    with pytest.raises(HardwareError, match="seconds is 0, and has to be more than 0"):
        calibrate(tmp_path / "board.toml", seconds=0)
    result = CliRunner().invoke(app, ["calibrate", str(tmp_path), "--out", str(tmp_path / "board.toml")])
    assert result.exit_code == 2
    assert result.stderr.startswith("fedsim: cannot calibrate: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "board.toml").exists()
