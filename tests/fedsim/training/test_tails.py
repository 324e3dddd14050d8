import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge.split import SplitModel
from fedsim import data
from fedsim.data import Task
from fedsim.errors import TrainingError
from fedsim.progress import Display
from fedsim.training import recipes
from fedsim.training.checkpoint import Checkpoint
from fedsim.training.lesson import Lesson
from fedsim.training.loop import Images, accuracy, as_input
from fedsim.training.tails import Tail, second_tail, with_outputs

from .lessons import SMALL, lesson, payloads

TASKS = data.find("digits").tasks


def labelled(images: Images, task: Task) -> Images:
    return Images(images.pixels, torch.from_numpy(task.labels(images.pixels.numpy(), images.labels.numpy())))


def tail_for(
    student: Lesson, task: Task, images: Images, epochs: int = 4, checkpoint: Checkpoint | None = None
) -> Tail:
    torch.manual_seed(3)
    with Display(quiet=True).task("tail", epochs) as bar:
        return second_tail(
            student.model,
            task,
            labelled(images, task),
            epochs=epochs,
            batch_size=32,
            learning_rate=3e-3,
            generator=torch.Generator().manual_seed(3),
            progress_task=bar,
            checkpoint=checkpoint,
        )


@pytest.fixture(scope="module")
def student(teacher: nn.Module, digits: tuple[Images, Images]) -> Lesson:
    student = lesson(teacher, digits[0])
    recipes.find("entropic-student")(student)
    return student


@pytest.mark.parametrize(("name", "metric", "least"), [("parity", "accuracy", 0.8), ("ink", "r2", 0.25)])
def test_another_task_is_done_from_the_same_bytes(
    student: Lesson, digits: tuple[Images, Images], name: str, metric: str, least: float
) -> None:
    train, held_out = digits
    before = copy.deepcopy(student.model.state_dict())
    sent, first_task = payloads(student, held_out), accuracy(student.model.transmit, held_out)
    tail = tail_for(student, TASKS[name], train)
    result = tail.evaluate(labelled(held_out, TASKS[name]))
    assert (result.name, result.metric) == (name, metric)
    assert least < result.value < 1
    assert result.payload_bytes == sum(map(len, sent)) / len(sent)
    # The bytes of the first task, to the last one: and nothing but they is needed for the second.
    assert payloads(student, held_out) == sent
    labels = labelled(held_out, TASKS[name]).labels
    answers = tail.answers(sent)
    if metric == "accuracy":
        assert result.value == float((answers == labels).double().mean())
        assert result.interval is not None
        assert result.interval[0] < result.value < result.interval[1]
    else:
        left = float((answers.double() - labels.double()).square().mean() / labels.double().var(correction=0))
        assert result.value == pytest.approx(1 - left)
        assert result.interval is None
    assert accuracy(student.model.transmit, held_out) == first_task
    assert all(torch.equal(value, before[key]) for key, value in student.model.state_dict().items())


def test_decoder_and_tail_are_trained_and_are_copies(student: Lesson, few: Images) -> None:
    tail = tail_for(student, TASKS["parity"], few, epochs=1)
    own = {parameter.data_ptr() for parameter in student.model.parameters()}
    theirs = [*tail.decoder.get_submodule("decoder").parameters(), *tail.tail.parameters()]
    assert not own & {parameter.data_ptr() for parameter in theirs}
    decoders = tail.decoder.get_submodule("decoder"), student.bottleneck.get_submodule("decoder")
    pairs = zip(decoders[0].parameters(), decoders[1].parameters(), strict=True)
    assert any(not torch.equal(ours, others) for ours, others in pairs)


def test_its_training_goes_on_from_a_checkpoint(student: Lesson, few: Images, tmp_path: Path) -> None:
    whole = tail_for(student, TASKS["ink"], few, epochs=2)
    tail_for(student, TASKS["ink"], few, epochs=2, checkpoint=Checkpoint(tmp_path / "d", "i", every_s=0))
    said: list[str] = []
    again = tail_for(
        student, TASKS["ink"], few, epochs=2, checkpoint=Checkpoint(tmp_path / "d", "i", remark=said.append)
    )
    assert said == ["d: its training goes on after epoch 2, from a checkpoint"]
    ours, theirs = again.tail.state_dict(), whole.tail.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(
    "tail",
    [
        nn.Linear(4, 10),
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 10, bias=False)),
        nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 10, 1), nn.Flatten()),
        nn.Sequential(nn.Linear(4, 10), nn.LayerNorm(10)),
        nn.Sequential(nn.Unflatten(1, (10, -1)), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
    ],
)
def test_any_tail_gets_a_last_layer_of_the_tasks_size(tail: nn.Module) -> None:
    values = torch.rand(1, 20 if isinstance(tail, nn.Sequential) and len(list(tail.parameters())) == 0 else 4)
    logits = tail(values)
    before = copy.deepcopy(tail)
    changed = with_outputs(tail, logits, 2)
    assert changed(values).shape == (1, 2)
    layers = [part for part in changed.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    replaced = [part for part in before.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if replaced and len(layers) == len(replaced):
        assert (layers[-1].bias is None) == (replaced[-1].bias is None)


def test_a_regression_of_what_never_changes_is_refused(student: Lesson, few: Images) -> None:
    constant = Task(
        "flat", "Nothing.", "regression", 1, lambda images, _: np.full(len(images), 0.5, np.float32)
    )
    with pytest.raises(TrainingError, match=r"task 'flat': all training labels are 0\.5"):
        tail_for(student, constant, few)


def test_without_a_bottleneck_nothing_is_sent(student: Lesson, few: Images) -> None:
    model = SplitModel(student.model.head, None, student.model.tail)
    with pytest.raises(TypeError, match="needs a model with a bottleneck"):
        Tail(TASKS["parity"], model, student.bottleneck, model.tail).evaluate(few)


def test_pixels_are_looked_at_as_the_network_sees_them(student: Lesson, few: Images) -> None:
    tail = Tail(TASKS["parity"], student.model, student.bottleneck, student.model.tail)
    with torch.no_grad():
        expected = student.model.transmit(as_input(few.pixels)).argmax(1)
    assert torch.equal(tail.answers(payloads(student, few)), expected)


@pytest.mark.parametrize("name", SMALL)
def test_any_family_serves_a_second_task(name: str, teacher: nn.Module, few: Images) -> None:
    at = ("stage3", "output") if name == "key-value" else ("input", "stage2")
    student = lesson(teacher, few, name=name, at=at, epochs=(1, 1))
    recipes.find("entropic-student")(student)
    sent = payloads(student, few)
    with torch.no_grad():
        before = student.bottleneck.decode(sent)
    tail = tail_for(student, TASKS["parity"], few, epochs=1)
    with torch.no_grad():
        assert torch.equal(student.bottleneck.decode(sent), before)
    assert tail.decoder.get_submodule("decoder") is not student.bottleneck.get_submodule("decoder")
    assert tail.decoder.encode(student.model.head(as_input(few.pixels))) == sent
    level = 0 if student.bottleneck.levels > 1 else None
    found, highest = tail.evaluate(labelled(few, TASKS["parity"]), level), sum(map(len, sent)) / len(sent)
    assert found.payload_bytes == highest if level is None else found.payload_bytes <= highest
