import dataclasses

import pytest
import torch
from torch import Tensor, nn

from edge.bottlenecks.base import TrainingPass
from fedsim.errors import TrainingError
from fedsim.training import recipes
from fedsim.training.compute import Compute, resolve
from fedsim.training.hints import Hints
from fedsim.training.lesson import Lesson
from fedsim.training.loop import Batch, Images, accuracy, as_input
from fedsim.training.memo import Memo

from .lessons import lesson, payloads

BF16 = Compute(precision="bf16")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@no_gpu
def test_without_a_gpu_auto_is_float32_on_the_cpu() -> None:
    assert resolve() == Compute(torch.device("cpu"), "float32")
    assert resolve("auto", "bf16") == BF16
    with pytest.raises(TrainingError, match="'cuda', but torch finds no GPU"):
        resolve("cuda")


def test_unknown_words_are_refused() -> None:
    with pytest.raises(TrainingError, match="device is 'tpu', allowed are auto, cpu, cuda"):
        resolve("tpu")
    with pytest.raises(TrainingError, match="precision is 'int8', allowed are auto, float32, bf16"):
        resolve("cpu", "int8")


def test_layers_run_in_the_precision_asked_for() -> None:
    layer, inputs = nn.Linear(3, 3), torch.rand(2, 3)
    with BF16.autocast():
        assert layer(inputs).dtype == torch.bfloat16
        with BF16.exactly():
            assert layer(inputs).dtype == torch.float32
    with Compute().autocast():
        assert layer(inputs).dtype == torch.float32


def test_a_recipe_runs_without_tf32_and_leaves_it_as_it_was(
    teacher: nn.Module, few: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)

    class Watching(Hints):
        def of_images(self, images: Tensor) -> list[Tensor]:
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().of_images(images)

    student = lesson(teacher, few, epochs=(1, 1))
    hints = Watching(teacher, student.model.tail, "stage2", as_input(few.pixels[:1]))
    calibrate = student.bottleneck.calibrate

    def watched(features: Tensor) -> None:
        seen.append(torch.backends.cudnn.allow_tf32)
        calibrate(features)

    monkeypatch.setattr(student.bottleneck, "calibrate", watched)
    recipes.find("bottlefit")(dataclasses.replace(student, hints=hints))
    assert len(seen) >= 2
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32


def test_a_memo_keeps_what_runs_in_bf16_as_it_comes(few: Images) -> None:
    layer = nn.Linear(64, 3)
    memo = Memo(lambda inputs: [layer(inputs.flatten(1))], few, compute=BF16)
    inputs = as_input(few.pixels[:4])
    (found,) = memo(Batch(inputs, few.labels[:4], torch.arange(4)))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(inputs.flatten(1)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("recipe", ["entropic-student", "end-to-end"])
def test_bf16_goes_the_same_way_and_leaves_a_float32_model(
    recipe: str, teacher: nn.Module, few: Images
) -> None:
    epochs = (3, 1) if recipe == "entropic-student" else (3,)
    histories = []
    for compute in (Compute(), BF16):
        student = lesson(
            teacher,
            few,
            beta=0.1 if recipe == "entropic-student" else 1e-3,
            at=("stage1", "stage2"),
            epochs=epochs,
            learning_rates=(3e-3, 1e-2)[: len(epochs)],
            compute=compute,
        )
        seen = watched(student)
        histories.append(recipes.find(recipe)(student))
        assert set(seen) == {torch.float32}
        assert all(v.dtype != torch.bfloat16 for v in student.model.state_dict().values())
        assert len(payloads(student, few)) == len(few)
    exact, short = ([epoch.figures for epoch in history] for history in histories)
    assert short != exact
    for ours, theirs in zip(short, exact, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05)


def watched(student: Lesson) -> list[torch.dtype]:
    """The types of all that goes into the bottleneck and comes out of it while it learns."""
    seen: list[torch.dtype] = []
    bottleneck = student.bottleneck
    passed, rehearsed = bottleneck.training_pass, bottleneck.rehearse

    def training_pass(features: Tensor) -> TrainingPass:
        found = passed(features)
        seen.extend(value.dtype for value in (features, *found))
        return found

    def rehearse(features: Tensor) -> Tensor:
        found = rehearsed(features)
        seen.extend((features.dtype, found.dtype))
        return found

    bottleneck.training_pass = training_pass  # type: ignore[method-assign]
    bottleneck.rehearse = rehearse  # type: ignore[method-assign]
    return seen


@gpu
def test_a_gpu_trains_and_everything_comes_back(teacher: nn.Module, digits: tuple[Images, Images]) -> None:
    student = lesson(teacher, digits[0], compute=resolve("cuda"))
    recipes.find("entropic-student")(student)
    assert {value.device.type for value in student.model.state_dict().values()} == {"cpu"}
    assert {value.device.type for value in teacher.state_dict().values()} == {"cpu"}
    assert accuracy(student.model.transmit, digits[1]) > 0.75


@gpu
def test_a_gpu_gives_the_same_again(teacher: nn.Module, few: Images) -> None:
    states = []
    for _ in range(2):
        student = dataclasses.replace(lesson(teacher, few), compute=resolve("cuda"))
        recipes.find("entropic-student")(student)
        states.append(student.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
