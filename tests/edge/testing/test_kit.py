"""What keeps the contract is reported; the kit is a command, too."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge.bottlenecks import create
from edge.testing import check_bottleneck
from edge.testing.__main__ import main

from .kit import SHAPE, Levels, Mine


def test_a_plain_plug_in_conforms() -> None:
    torch.manual_seed(0)
    report = check_bottleneck(lambda: Mine(SHAPE), torch.rand(4, *SHAPE))
    assert report.samples == len(report.payload_bytes) == 4
    assert report.level_bytes == [sum(report.payload_bytes) / 4]
    assert max(report.payload_bytes) < 60


def test_features_may_be_of_any_memory_layout() -> None:
    features = torch.rand(4, 8, 8, 3).permute(0, 3, 1, 2)
    check_bottleneck(lambda: Mine((3, 8, 8)), features)


def test_levels_are_reported() -> None:
    assert check_bottleneck(lambda: Levels((2,)), torch.rand(3, 2)).level_bytes == [4.0, 8.0]


@pytest.mark.parametrize("features", [torch.rand(1, 2), torch.ones(3, 2)])
def test_two_samples_at_least_that_differ(features: Tensor) -> None:
    with pytest.raises(ValueError, match="at least two samples that differ"):
        check_bottleneck(lambda: create("float32", (2,)), features)


def test_the_command_says_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["integer", "--input-shape", "3,8,8", "--options", '{"bits": 4}', "--samples", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("integer keeps all ")
    assert "payload   104 bytes, for 104 bytes of information" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["integer", "--input-shape", "3,x"], "'3,x' is no shape; allowed are sizes such as 3,8,8"),
        (["integer", "--input-shape", "3", "--options", "[1]"], "'[1]' is no JSON object"),
        (["integer", "--input-shape", "3", "--options", "{"], "'{' is not JSON"),
        (["integer", "--input-shape", "3", "--options", '{"bit": 1}'], "integer cannot be made: "),
        (["integer", "--input-shape", "3", "--samples", "1"], "'1' samples; allowed are 2 or more"),
        (["nothing", "--input-shape", "3"], "unknown bottleneck 'nothing'"),
        (["absent_module:Mine", "--input-shape", "3"], "cannot be imported"),
        (["integer"], "--input-shape"),
    ],
)
def test_wrong_arguments_are_told_with_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_in_a_fresh_process_the_command_tells_what_a_constructor_computes(tmp_path: Path) -> None:
    (tmp_path / "computing.py").write_text(
        "import torch\n"
        "from edge.bottlenecks.raw_features import Float32\n\n"
        "class Mine(Float32):\n"
        "    def __init__(self, *shapes):\n"
        "        super().__init__(*shapes)\n"
        "        self.register_buffer('scales', torch.ones(4).exp())\n"
    )
    command = [sys.executable, "-m", "edge.testing", "computing:Mine", "--input-shape", "3,2,2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("Mine breaks 1 of ")
    assert "PyTorch loaded torch._dynamo: 70 MB" in done.stdout
