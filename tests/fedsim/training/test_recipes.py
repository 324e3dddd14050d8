"""The Entropic Student's recipe, on real digits."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from edge import backbones, bundle
from edge.bundle import ModelSpec
from fedsim import data
from fedsim.errors import TrainingError
from fedsim.progress import Display
from fedsim.training import recipes
from fedsim.training.classifier import train_classifier
from fedsim.training.hints import Hints
from fedsim.training.loop import Images, accuracy, as_input
from fedsim.training.recipes import Lesson

Stages = Callable[[], list[recipes.Epoch]]


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images]:
    dataset = data.load("digits")
    pixels, labels = torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train)
    return Images(pixels[:640], labels[:640]), Images(pixels[640:], labels[640:])


@pytest.fixture(scope="module")
def teacher(digits: tuple[Images, Images]) -> nn.Module:
    torch.manual_seed(0)
    network = backbones.create("digits-cnn", widths=[8, 16, 24])
    with Display(quiet=True).task("teacher", 12) as task:
        train_classifier(
            network,
            digits[0],
            epochs=12,
            batch_size=32,
            learning_rate=3e-3,
            generator=torch.Generator().manual_seed(0),
            task=task,
        )
    return network.requires_grad_(False)


def lesson(
    teacher: nn.Module,
    images: Images,
    *,
    beta: float = 0.1,
    name: str = "factorized",
    entry: str | None = "input",
) -> Lesson:
    options = {"channels": 6, "encoder_channels": [12, 8]} if name == "factorized" else {}
    spec = ModelSpec("m", "digits-cnn", {"widths": [8, 16, 24]}, "stage2", entry, (1, 8, 8), name, options)
    torch.manual_seed(1)
    model = bundle.build(spec, copy.deepcopy(teacher))
    with Display(quiet=True).task("student", 8) as task:
        return Lesson(
            model=model,
            teacher=teacher,
            hints=Hints(teacher, model.tail, "stage2", as_input(images.pixels[:1])),
            images=images,
            beta=beta,
            epochs=(6, 2),
            batch_size=32,
            learning_rates=(8e-3, 2e-2),
            generator=torch.Generator().manual_seed(1),
            task=task,
        )


def payloads(lesson: Lesson, images: Images) -> list[bytes]:
    with torch.no_grad():
        return lesson.bottleneck.encode(lesson.model.head(as_input(images.pixels)))


def test_the_coded_bytes_of_a_set_are_the_same_before_and_after_the_second_stage(
    teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    train, held_out = digits
    student = lesson(teacher, train)
    first, second = recipes.entropic_student_stages(student)
    first()
    before, fingerprint = payloads(student, held_out), student.bottleneck.fingerprint
    tail_before = copy.deepcopy(student.model.tail.state_dict())
    accuracy_before = accuracy(student.model.transmit, held_out)
    second()
    assert payloads(student, held_out) == before
    assert student.bottleneck.fingerprint == fingerprint
    tail_after = student.model.tail.state_dict()
    assert any(not torch.equal(tail_before[name], tail_after[name]) for name in tail_before)
    assert accuracy(student.model.transmit, held_out) >= accuracy_before - 0.02


def test_it_learns_and_leaves_the_teacher_alone(teacher: nn.Module, digits: tuple[Images, Images]) -> None:
    train, held_out = digits
    untouched = copy.deepcopy(teacher.state_dict())
    student = lesson(teacher, train)
    history = recipes.entropic_student(student)
    hints = [epoch.figures for epoch in history if epoch.stage == "hints"]
    assert hints[-1]["distortion"] < hints[0]["distortion"]
    assert accuracy(teacher, held_out) > 0.95
    assert accuracy(student.model.transmit, held_out) > 0.85
    assert all(torch.equal(value, untouched[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in student.model.parameters())


def test_the_first_stage_changes_the_bottleneck_and_nothing_else(
    teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    student = lesson(teacher, digits[0], entry=None)
    parts = {"head": student.model.head, "tail": student.model.tail}
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    encoder = copy.deepcopy(student.bottleneck.state_dict())
    recipes.entropic_student_stages(student)[0]()
    for name, part in parts.items():
        assert all(torch.equal(value, before[name][key]) for key, value in part.state_dict().items())
    after = student.bottleneck.state_dict()
    assert any(not torch.equal(value, after[key]) for key, value in encoder.items() if key in after)


def test_the_distortion_is_the_sum_over_a_samples_values(
    teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    train = Images(digits[0].pixels[:64], digits[0].labels[:64])
    student = dataclasses.replace(lesson(teacher, train), epochs=(1, 1), learning_rates=(1e-9, 1e-9))
    (first,) = recipes.entropic_student_stages(student)[0]()
    with torch.no_grad():
        inputs = as_input(train.pixels)
        reconstruction = student.bottleneck.transmit(student.model.head(inputs))
        expected = sum(
            float((ours - theirs).square().sum()) / len(inputs)
            for ours, theirs in zip(
                student.hints.of_reconstruction(reconstruction), student.hints.of_images(inputs), strict=True
            )
        )
    assert first.figures["distortion"] == pytest.approx(expected, rel=0.1)


def test_a_larger_beta_costs_fewer_bytes(teacher: nn.Module, digits: tuple[Images, Images]) -> None:
    train, held_out = digits
    sizes = []
    for beta in (0.01, 3.0):
        student = lesson(teacher, train, beta=beta)
        recipes.entropic_student_stages(student)[0]()
        sizes.append(sum(map(len, payloads(student, held_out))))
    assert sizes[1] < 0.8 * sizes[0]


def test_the_same_seed_gives_the_same_model(teacher: nn.Module, digits: tuple[Images, Images]) -> None:
    train = Images(digits[0].pixels[:96], digits[0].labels[:96])
    states = []
    for _ in range(2):
        student = lesson(teacher, train)
        recipes.entropic_student(student)
        states.append((student.model.state_dict(), student.bottleneck.fingerprint))
    assert states[0][1] == states[1][1]
    assert all(torch.equal(value, states[1][0][name]) for name, value in states[0][0].items())


def test_a_bottleneck_can_stand_behind_a_head(teacher: nn.Module, digits: tuple[Images, Images]) -> None:
    student = lesson(teacher, digits[0], entry=None)
    recipes.entropic_student(student)
    assert accuracy(student.model.transmit, digits[1]) > 0.85


def test_a_loss_that_is_not_finite_ends_the_training_by_name(
    teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    student = lesson(teacher, digits[0], beta=float("inf"))
    with pytest.raises(TrainingError, match=r"hints: the loss is inf in epoch 1"):
        recipes.entropic_student(student)


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(LookupError, match="unknown recipe 'magic'; known are entropic-student"):
        recipes.find("magic")
    assert "teacher hints" in recipes.available()["entropic-student"]
