import copy

import pytest
import torch

from edge import backbones
from edge.split import cut
from fedsim.training.hints import Hints


@pytest.mark.parametrize(
    ("backbone", "shape", "at", "layers"),
    [
        ("resnet18-32", (3, 32, 32), "layer1", ["layer2", "layer3", "layer4"]),
        ("resnet18-32", (3, 32, 32), "layer4", []),
        ("digits-cnn", (1, 8, 8), "stage2", ["stage3"]),
        ("digits-cnn", (1, 8, 8), "stage1.relu1", ["stage1.conv2", "stage1.bn2", "stage2", "stage3"]),
    ],
)
def test_hints_are_the_later_feature_maps(
    backbone: str, shape: tuple[int, ...], at: str, layers: list[str]
) -> None:
    network = backbones.create(backbone).eval()
    assert Hints(network, cut(network, at)[1], at, torch.rand(1, *shape)).layers == layers


@pytest.mark.parametrize("at", ["input", "stage1", "stage2"])
def test_an_untouched_student_agrees_with_its_teacher_everywhere(at: str) -> None:
    teacher = backbones.create("digits-cnn").eval()
    head, tail = cut(copy.deepcopy(teacher), at)
    hints = Hints(teacher, tail, at, torch.rand(1, 1, 8, 8))
    images = torch.rand(3, 1, 8, 8)
    found, expected = hints.of_reconstruction(head(images)), hints.of_images(images)
    assert len(found) == 1 + len(hints.layers)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_hook_is_left_behind() -> None:
    teacher = backbones.create("digits-cnn").eval()
    hints = Hints(teacher, cut(teacher, "stage1")[1], "stage1", torch.rand(1, 1, 8, 8))
    hints.of_images(torch.rand(2, 1, 8, 8))
    assert not any(module._forward_hooks for module in teacher.modules())
