"""Loading what is to be measured, and the stages of it."""

import shutil
from pathlib import Path

import pytest
import torch

from fedsim.calibration.splits import BATCHES, load
from fedsim.errors import HardwareError

from .conftest import saved

AMPLE_S, SCARCE_S = 1e6, 1e-9


def test_each_stage_of_each_model_of_a_run(run_folder: Path) -> None:
    plain, split, whole = load([run_folder])
    assert (plain.name, split.name, whole.name) == ("plain", "split at 0.5", "whole")
    assert list(whole.subjects(AMPLE_S)) == [("head", 1)]
    subjects = plain.subjects(AMPLE_S)
    assert set(subjects) == {
        ("head", 1),
        ("encode", 1),
        *((stage, size) for stage in ("decode", "tail") for size in BATCHES),
    }
    assert all(run(number) > 0 for run in subjects.values() for number in (0, 31, 32))


def test_large_batches_are_left_out_where_there_is_no_time_for_them(run_folder: Path) -> None:
    (plain,) = load([run_folder / "models" / "plain"])
    assert [size for stage, size in plain.subjects(SCARCE_S) if stage == "tail"] == [1, 2]


def test_a_device_without_a_server_half(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "models" / "plain" / "device", tmp_path / "board" / "device")
    for folder in (tmp_path / "board", tmp_path / "board" / "device"):
        (stages,) = load([folder])
        assert stages.server is None
        assert list(stages.subjects(AMPLE_S)) == [("head", 1), ("encode", 1)]


def test_images_are_those_of_a_file_or_random(run_folder: Path, samples: Path) -> None:
    (random,) = load([run_folder / "models" / "plain"])
    assert random.images.shape == (32, 1, 8, 8)
    assert random.of == "random images"
    (real,) = load([run_folder / "models" / "plain"], samples)
    assert real.images.shape == (5, 1, 8, 8)
    assert real.of == "5 images of digits.safetensors"
    assert torch.equal((255 * real.images).round(), 255 * real.images)
    assert real.subjects(AMPLE_S)["tail", 32](3) > 0  # more than there are images


def test_what_cannot_be_measured_is_one_message(run_folder: Path, samples: Path, tmp_path: Path) -> None:
    def complaint(*folders: Path, images: Path | None = None) -> str:
        with pytest.raises(HardwareError) as caught:
            load(folders, images)
        message = str(caught.value)
        assert message.startswith("cannot calibrate: ")
        assert "\n" not in message
        return message

    plain = run_folder / "models" / "plain"
    assert "holds no device half" in complaint(tmp_path)
    assert "there is no folder" in complaint(tmp_path / "absent")
    (tmp_path / "empty" / "models").mkdir(parents=True)
    assert "has no model in its folder models" in complaint(tmp_path / "empty")
    assert "holds a model 'plain', as one ahead of it does" in complaint(plain, run_folder)
    assert "not a readable safetensors file" in complaint(plain, images=tmp_path / "absent.safetensors")
    other = saved(tmp_path, "other", "float32", seed=1)
    mixed = tmp_path / "mixed"
    shutil.copytree(plain / "device", mixed / "device")
    shutil.copytree(other / "server", mixed / "server")
    assert "holds halves of two models" in complaint(mixed)
