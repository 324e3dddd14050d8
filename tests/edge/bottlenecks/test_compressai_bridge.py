"""CompressAI and torchvision can be imported, whether torchvision's operators load or not."""

import subprocess
import sys

IMPORT = """
from edge.bottlenecks.compressai_bridge import entropy_bottleneck
print(entropy_bottleneck(3, 2.0).channels)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_with_the_torchvision_that_is_installed() -> None:
    done = run(IMPORT)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_operators_that_torchvision_declared_itself_are_left_alone() -> None:
    # Stands for a torchvision whose library loads: its operators are there before its fake kernels.
    declare = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
    done = run(declare + IMPORT)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
