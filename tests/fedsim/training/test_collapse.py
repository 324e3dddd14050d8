import pytest
import torch
from torch import nn

from fedsim.training import recipes
from fedsim.training.collapse import collapse_remark
from fedsim.training.loop import Images, as_input

from .lessons import lesson, payloads


def test_too_large_a_beta_is_told(teacher: nn.Module, few: Images) -> None:
    student = lesson(teacher, few, beta=1e6, epochs=(20, 1), learning_rates=(3e-2, 1e-3))
    recipes.find("entropic-student")(student)
    inputs = as_input(few.pixels)
    found = payloads(student, few)
    bits = sum(map(student.bottleneck.ideal_bits, found)) / len(found)
    assert bits < 1 or len(set(found)) == 1
    remark = collapse_remark("mine", student.model, inputs)
    assert remark is not None
    assert remark.startswith("mine has collapsed: ")
    assert remark.endswith(f"{bits:.3g} bits a sample; lower its beta")


def test_a_sound_model_is_not_talked_of(teacher: nn.Module, few: Images) -> None:
    student = lesson(teacher, few, beta=0.1, epochs=(3, 1))
    recipes.find("entropic-student")(student)
    assert len(set(payloads(student, few))) > 1
    assert collapse_remark("mine", student.model, as_input(few.pixels)) is None


@pytest.mark.parametrize("level", [None, 0])
def test_payloads_that_are_all_the_same_tell_nothing(
    teacher: nn.Module, few: Images, level: int | None
) -> None:
    student = lesson(teacher, few, name="bottlefit", epochs=(2, 1))
    recipes.find("bottlefit")(student)
    images = as_input(few.pixels)
    assert collapse_remark("dead", student.model, images, level) is None
    with torch.no_grad():
        for parameter in student.bottleneck.encoder.parameters():
            parameter.zero_()
    remark = collapse_remark("dead", student.model, images, level)
    assert remark is not None
    assert "64 training samples give the same payload" in remark
    assert remark.endswith("lower its learning rate or train it longer")
    assert collapse_remark("one", student.model, images[:1], level) is None
