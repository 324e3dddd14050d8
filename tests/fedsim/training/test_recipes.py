"""The recipes, on real digits."""

import copy

import pytest
import torch
from torch import Tensor, nn

from edge.bottlenecks import registry
from edge.bottlenecks.base import TrainingPass
from edge.bottlenecks.factorized import FactorizedBottleneck
from fedsim.errors import TrainingError
from fedsim.training import recipes
from fedsim.training.loop import Images, accuracy, as_input
from fedsim.training.objectives import distillation, labels, teacher_hints
from fedsim.training.pieces import freeze, learn_code, tune_tail

from .lessons import SMALL, lesson, payloads

RECIPES = {"entropic-student": (6, 2), "bottlefit": (6, 2), "end-to-end": (8,)}


def rates(name: str) -> tuple[float, ...]:
    return (8e-3, 2e-2)[: len(RECIPES[name])]


def test_the_coded_bytes_of_a_set_are_the_same_before_and_after_the_second_stage(
    teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    train, held_out = Images(digits[0].pixels[:320], digits[0].labels[:320]), digits[1]
    student = lesson(teacher, train, epochs=(4, 2))
    learn_code(student, stage=0, name="hints", objective=teacher_hints(student))
    freeze(student)
    before, fingerprint = payloads(student, held_out), student.bottleneck.fingerprint
    tail_before = copy.deepcopy(student.model.tail.state_dict())
    accuracy_before = accuracy(student.model.transmit, held_out)
    tune_tail(student, stage=1, name="distillation", objective=distillation(student))
    assert payloads(student, held_out) == before
    assert student.bottleneck.fingerprint == fingerprint
    tail_after = student.model.tail.state_dict()
    assert any(not torch.equal(tail_before[name], tail_after[name]) for name in tail_before)
    assert accuracy(student.model.transmit, held_out) >= accuracy_before - 0.02


@pytest.mark.parametrize("name", RECIPES)
def test_it_learns_and_leaves_the_teacher_alone(
    name: str, teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    train, held_out = digits
    untouched = copy.deepcopy(teacher.state_dict())
    beta = 0.001 if name == "end-to-end" else 0.1
    student = lesson(teacher, train, beta=beta, epochs=RECIPES[name], learning_rates=rates(name))
    history = recipes.find(name)(student)
    stages = [epoch.stage for epoch in history]
    first, *rest = recipes.find(name).stages
    assert list(dict.fromkeys(stages)) == [f"{first}, warm-up", first, *rest]
    assert len(history) == sum(RECIPES[name])
    learning = [epoch.figures for epoch in history if epoch.stage == first]
    figure = "cross-entropy" if name == "end-to-end" else "distortion"
    assert learning[-1][figure] < learning[0][figure]
    for figures in learning:
        assert figures["loss"] == pytest.approx(figures[figure] + beta * figures["bits"], rel=1e-5)
    assert accuracy(teacher, held_out) > 0.9
    assert accuracy(student.model.transmit, held_out) > 0.75
    assert all(torch.equal(value, untouched[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in student.model.parameters())
    assert not any(part.training for part in student.model.modules())


def test_the_first_stage_changes_the_bottleneck_and_nothing_else(teacher: nn.Module, few: Images) -> None:
    student = lesson(teacher, few, at=("stage2", "stage2"))
    parts = {"head": student.model.head, "tail": student.model.tail}
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    encoder = copy.deepcopy(student.bottleneck.state_dict())
    learn_code(student, stage=0, name="hints", objective=teacher_hints(student))
    for name, part in parts.items():
        assert all(torch.equal(value, before[name][key]) for key, value in part.state_dict().items())
    after = student.bottleneck.state_dict()
    assert any(not torch.equal(value, after[key]) for key, value in encoder.items() if key in after)


def test_end_to_end_trains_the_tail_and_not_the_head(teacher: nn.Module, few: Images) -> None:
    student = lesson(teacher, few, at=("stage1", "stage2"), beta=1e-3, epochs=(2,), learning_rates=(1e-3,))
    before = copy.deepcopy(student.model.state_dict())
    recipes.find("end-to-end")(student)
    after = student.model.state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    parts = {key.partition(".")[0] for key in changed}
    assert parts == {"bottleneck", "tail"}
    assert {"bottleneck.encoder.0.weight", "bottleneck.decoder.0.weight"} <= changed


def test_the_distortion_is_the_sum_over_a_samples_values(
    teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    train = Images(digits[0].pixels[:64], digits[0].labels[:64])
    student = lesson(teacher, train, epochs=(1, 1), learning_rates=(1e-9, 1e-9))
    (first,) = learn_code(student, stage=0, name="hints", objective=teacher_hints(student))
    freeze(student)
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


@pytest.mark.parametrize("name", ["entropic-student", "end-to-end"])
def test_a_larger_beta_costs_fewer_bytes(
    name: str, teacher: nn.Module, digits: tuple[Images, Images]
) -> None:
    train, held_out = Images(digits[0].pixels[:256], digits[0].labels[:256]), digits[1]
    sizes = []
    for beta in (1e-4, 1.0) if name == "end-to-end" else (0.01, 3.0):
        student = lesson(
            teacher, train, beta=beta, epochs=(6, 1)[: len(rates(name))], learning_rates=rates(name)
        )
        recipes.find(name)(student)
        sizes.append(sum(map(len, payloads(student, held_out))))
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_seed_gives_the_same_model(name: str, teacher: nn.Module, few: Images) -> None:
    states = []
    for _ in range(2):
        student = lesson(teacher, few, epochs=(2, 1)[: len(rates(name))], learning_rates=rates(name))
        recipes.find(name)(student)
        states.append((student.model.state_dict(), student.bottleneck.fingerprint))
    assert states[0][1] == states[1][1]
    assert all(torch.equal(value, states[1][0][name]) for name, value in states[0][0].items())


def test_the_second_stages_differ_in_their_loss(teacher: nn.Module, few: Images) -> None:
    student = lesson(teacher, few)
    logits, reconstruction = torch.randn(4, 10), torch.randn(4, 16, 4, 4)
    classes = torch.arange(4)
    task, distilled = labels(student), distillation(student)
    assert task.targets(as_input(few.pixels[:4])) == []
    given = student.model.tail(reconstruction)
    cross_entropy = float(nn.functional.cross_entropy(given, classes))
    assert float(task.loss(reconstruction, [], classes)) == pytest.approx(cross_entropy)
    assert float(distilled.loss(reconstruction, [given], classes)) == pytest.approx(cross_entropy / 2)
    assert float(distilled.loss(reconstruction, [logits], classes)) > cross_entropy / 2


class Watched(FactorizedBottleneck):
    """Keeps a record of how a recipe treats it, and asks for a penalty."""

    def __init__(self, *shapes: tuple[int, ...], **options: object) -> None:
        super().__init__(*shapes, channels=4)
        self.calls: list[str] = []
        self.observed: list[Tensor] = []

    def training_pass(self, features: Tensor) -> TrainingPass:
        self.calls.append("training_pass" if self.training else "?")
        found = super().training_pass(features)
        return found._replace(rate=2 * found.bits, penalty=torch.full_like(found.bits, 0.25))

    def calibrate(self, features: Tensor) -> None:
        self.calls.append(f"calibrate {tuple(features.shape)}")
        super().calibrate(features)

    def observe(self, features: Tensor) -> None:
        assert not torch.is_grad_enabled()
        self.calls.append("?" if self.training else "observe")
        self.observed.append(features)

    def freeze(self) -> None:
        self.calls.append("freeze")
        super().freeze()

    def rehearse(self, features: Tensor) -> Tensor:
        self.calls.append("rehearse")
        return super().rehearse(features)


@pytest.mark.parametrize("epochs", [(3, 1), (1, 1)])
def test_the_calls_come_in_the_order_of_the_contract(
    epochs: tuple[int, int], teacher: nn.Module, few: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "watched", Watched)
    student = lesson(teacher, few, name="watched", epochs=epochs)
    history = recipes.find("entropic-student")(student)
    watched = student.bottleneck
    assert isinstance(watched, Watched)
    steps = -(-len(few) // 32)
    warm_up = ["training_pass"] * steps if epochs[0] > 1 else []
    learning = ["training_pass"] * (steps * (epochs[0] - (epochs[0] > 1)))
    calibrate, observe = [f"calibrate {(len(few), 1, 8, 8)}"], ["observe"]
    expected = [*warm_up, *calibrate, *learning, *observe, "freeze", *["rehearse"] * steps]
    assert watched.calls == expected
    assert torch.equal(torch.cat(watched.observed), student.model.head(as_input(few.pixels)))
    for epoch in history[:-1]:
        figures, beta = epoch.figures, 0.0 if "warm-up" in epoch.stage else 0.1
        loss = figures["distortion"] + beta * 2 * figures["bits"] + 0.25
        assert figures["loss"] == pytest.approx(loss, rel=1e-5)
        assert figures["penalty"] == pytest.approx(0.25)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("recipe", ["bottlefit", "end-to-end"])
def test_any_family_can_be_taught(recipe: str, name: str, teacher: nn.Module, few: Images) -> None:
    at = ("stage3", "output") if name == "key-value" else ("input", "stage2")
    epochs = (3, 1)[: len(rates(recipe))]
    student = lesson(teacher, few, name=name, at=at, beta=0.0, epochs=epochs, learning_rates=rates(recipe))
    history = recipes.find(recipe)(student)
    assert len(history) == sum(epochs)
    with torch.no_grad():
        features = student.model.head(as_input(few.pixels[:8]))
        decoded = student.bottleneck.decode(student.bottleneck.encode(features))
    torch.testing.assert_close(decoded, student.bottleneck.transmit(features), rtol=1e-4, atol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_training_by_name(teacher: nn.Module, few: Images) -> None:
    student = lesson(teacher, few, beta=float("inf"))
    with pytest.raises(TrainingError, match=r"hints: the loss is inf in epoch 1"):
        recipes.find("entropic-student")(student)


def test_a_recipe_needs_numbers_for_each_of_its_stages(teacher: nn.Module, few: Images) -> None:
    for epochs, learning_rates, what in [
        ((1,), (0.1, 0.1), r"epochs are \[1\]"),
        ((1, 1), (0.1,), r"learning_rates are \[0.1\]"),
    ]:
        student = lesson(teacher, few, epochs=epochs, learning_rates=learning_rates)
        with pytest.raises(ValueError, match=rf"'bottlefit' has 2 stages \(hints, task\), but {what}"):
            recipes.find("bottlefit")(student)


class Empty(FactorizedBottleneck):
    """Says that it learns, and has nothing to learn with."""

    def __init__(self, *shapes: tuple[int, ...], **options: object) -> None:
        super(FactorizedBottleneck, self).__init__(*shapes)

    def prepare_training(self) -> None:
        pass


def test_a_family_without_parameters_is_named(
    teacher: nn.Module, few: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "empty", Empty)
    with pytest.raises(TrainingError, match="hints: Empty says that it learns but has no parameters"):
        recipes.find("entropic-student")(lesson(teacher, few, name="empty"))


def test_an_unknown_recipe_lists_the_known() -> None:
    known = "entropic-student, bottlefit, end-to-end"
    with pytest.raises(LookupError, match=f"unknown recipe 'magic'; known are {known}"):
        recipes.find("magic")
    assert "teacher hints" in recipes.available()["entropic-student"]
    assert all(recipes.available().values())
