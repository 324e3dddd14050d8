import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edge import backbones, bundle
from edge.bottlenecks import registry
from edge.bottlenecks.factorized import FactorizedBottleneck
from edge.bottlenecks.raw_features import Integer
from fedsim import data
from fedsim.data import Dataset
from fedsim.errors import DataError, ModelError, OutputError
from fedsim.models import Model, Workshop
from fedsim.progress import Display, Task
from fedsim.scenario import Baseline, Scenario
from fedsim.training.checkpoint import Checkpoint

SCENARIO: dict[str, Any] = {
    "name": "small",
    "data": {"name": "digits"},
    "model": {"backbone": "digits-cnn", "backbone_arguments": {"widths": [2, 2, 2]}, "cut": "stage2"},
    "training": {"teacher_epochs": 1},
    "fleet": [{"count": 1}],
}


def scenario(bottleneck: dict[str, Any]) -> Scenario:
    return Scenario.model_validate({**SCENARIO, "model": {**SCENARIO["model"], "bottleneck": bottleneck}})


@pytest.fixture(scope="module")
def few() -> Dataset:
    """Some of the digits."""
    whole = data.load("digits")
    train, test = slice(0, 32), slice(0, 8)
    return Dataset(
        "digits",
        10,
        whole.x_train[train],
        whole.y_train[train],
        whole.x_test[test],
        whole.y_test[test],
        whole.tasks,
    )


@pytest.fixture
def workshop(few: Dataset, tmp_path: Path) -> Workshop:
    return Workshop(few, 3, tmp_path / "models", Display(quiet=True))


def test_rate_is_the_same_whether_a_baseline_or_the_model_sends_it(workshop: Workshop) -> None:
    point = scenario({"name": "integer", "bits": 4})
    (mine,) = workshop.trained(point, {})
    theirs = workshop.baseline(point, Baseline(name="integer", bits=4))
    assert (mine.method.name, theirs.method.name) == ("integer", "integer-4")
    for model in (mine, theirs):
        assert bundle.load_device(model.method.bundle).spec.rate == 4.0
        assert bundle.load_server(model.method.bundle).spec.rate == 4.0
        assert not model.cost.learned
    assert scenario({"name": "float16"}).model.bottleneck.rate is None
    assert scenario({"name": "factorized", "beta": 0.3, "bits": 4}).model.bottleneck.rate == 0.3


class Prepared(Integer):
    """Codes only when its tables have been made, as a bottleneck with fixed tables does."""

    frozen = False

    def freeze(self) -> None:
        type(self).frozen = True


def test_bottleneck_without_learning_is_frozen_wherever_it_stands(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "prepared", Prepared)
    point = scenario({"name": "prepared"})
    for make in (
        lambda: workshop.trained(point, {})[0],
        lambda: workshop.baseline(point, Baseline(name="prepared", bits=8)),
    ):
        monkeypatch.setattr(Prepared, "frozen", False)
        assert make().method.bundle.is_dir()
        assert Prepared.frozen


class Broken(Integer):
    """Cannot make its tables."""

    error: Exception

    def freeze(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("no"), TypeError("no"), LookupError("no"), RuntimeError("no"), OSError("no")]
)
def test_model_that_cannot_be_made_is_named(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setitem(registry._registered, "broken", Broken)
    monkeypatch.setattr(Broken, "error", error, raising=False)
    point = scenario({"name": "broken"})
    with pytest.raises(ModelError, match=r"^model 'broken' cannot be made: no$") as caught:
        workshop.trained(point, {})
    assert caught.value.exit_code == 1
    with pytest.raises(ModelError, match=r"^model 'broken-8' cannot be made: no$"):
        workshop.baseline(point, Baseline(name="broken", bits=8))


def test_wrong_parts_are_named_by_their_model(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model 'bottleneck-bits99' cannot be made: .*unknown bottleneck"):
        workshop.trained(scenario({"name": "bottleneck"}), {"model.bottleneck.bits": 99})
    with pytest.raises(ModelError, match=r"model 'integer' cannot be made: bits is 99, allowed are"):
        workshop.trained(scenario({"name": "integer", "bits": 99}), {})
    point = Scenario.model_validate(
        {**SCENARIO, "model": {**SCENARIO["model"], "cut": "stage9", "bottleneck": {"name": "float16"}}}
    )
    with pytest.raises(ModelError, match=r"model 'float16' cannot be made: .*no layer 'stage9'"):
        workshop.trained(point, {})
    (tmp_path / "models").mkdir(exist_ok=True)
    (tmp_path / "models" / "png").write_text("in the way")
    with pytest.raises(ModelError, match=r"model 'png' cannot be made: "):
        workshop.baseline(point, Baseline(name="png"))


def test_seed_decides_the_weights(few: Dataset, tmp_path: Path) -> None:
    ids = []
    for number, seed in enumerate((1, 1, 2)):
        shop = Workshop(few, seed, tmp_path / str(number), Display(quiet=True))
        (made,) = shop.trained(scenario({"name": "float16"}), {})
        ids.append(bundle.load_device(made.method.bundle).model_id)
    assert ids[0] == ids[1] != ids[2]


def learned(**changes: Any) -> Scenario:
    """A scenario whose bottleneck is trained in a moment."""
    document: dict[str, Any] = {
        **SCENARIO,
        "model": {
            **SCENARIO["model"],
            "entry": "input",
            "bottleneck": {"name": "factorized", "channels": 4, "beta": 0.1},
        },
        "training": {"teacher_epochs": 2, "epochs": [2, 1], "batch_size": 16},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            document[section] = {**document[section], name: value}
        else:
            document[section] = value
    return Scenario.model_validate(document)


def model_id(model: Model) -> str:
    return bundle.load_device(model.method.bundle).model_id


class Killed(BaseException):
    """Stands for the end of the process."""


class Killing(Display):
    """Ends the process, as it were, at the end of an epoch."""

    def __init__(self, left: int) -> None:
        super().__init__(quiet=True)
        self.left = left

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        with super().task(description, total) as task:
            advance = task.advance

            def killing(figures: Mapping[str, float]) -> None:
                advance(figures)
                self.left -= 1
                if not self.left:
                    raise Killed

            task.advance = killing  # type: ignore[method-assign]
            yield task


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every epoch, however short."""
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"every_s": 0.0, "remark": lambda _: None})


@pytest.mark.usefixtures("eager")
def test_killed_at_any_epoch_it_makes_the_same_model(few: Dataset, tmp_path: Path) -> None:
    (unbroken,) = Workshop(few, 3, tmp_path / "a", Display(quiet=True)).trained(learned(), {})
    for epoch in range(1, 6):  # two of the teacher, three of the student; each goes on where the last ended
        shop = Workshop(few, 3, tmp_path / "b", Killing(epoch), checkpoints=tmp_path / "checkpoints")
        with pytest.raises(Killed):
            shop.trained(learned(), {})
    shop = Workshop(few, 3, tmp_path / "b", Killing(6), checkpoints=tmp_path / "checkpoints")
    (found,) = shop.trained(learned(), {})
    assert model_id(found) == model_id(unbroken)
    assert found.history == unbroken.history


@pytest.mark.usefixtures("eager")
def test_killed_in_a_further_task_it_goes_on_there(
    few: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point, checkpoints = learned(tasks=["parity"]), tmp_path / "checkpoints"
    (unbroken,) = Workshop(few, 3, tmp_path / "a", Display(quiet=True)).trained(point, {})
    with pytest.raises(Killed):
        Workshop(few, 3, tmp_path / "b", Killing(6), checkpoints=checkpoints).trained(point, {})
    (found,) = Workshop(few, 3, tmp_path / "b", Display(quiet=True), checkpoints=checkpoints).trained(
        point, {}
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "factorized-parity-seed3: its training goes on after epoch 1, from a checkpoint" in said
    assert found.tasks == unbroken.tasks


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("change", [{"training__batch_size": 8}, {"training__recipe": "bottlefit"}])
def test_a_checkpoint_of_another_training_changes_nothing(
    few: Dataset, tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(Killed):
        Workshop(few, 3, tmp_path / "a", Killing(4), checkpoints=checkpoints).trained(learned(), {})
    (clean,) = Workshop(few, 3, tmp_path / "b", Display(quiet=True)).trained(learned(**change), {})
    shop = Workshop(few, 3, tmp_path / "c", Display(quiet=True), checkpoints=checkpoints)
    (found,) = shop.trained(learned(**change), {})
    assert model_id(found) == model_id(clean)
    assert "is of another training and left aside" in " ".join(capsys.readouterr().out.split())


def test_trained_networks_are_kept_for_other_processes(few: Dataset, tmp_path: Path) -> None:
    def shop(name: str, display: Display, seed: int = 3) -> Workshop:
        return Workshop(few, seed, tmp_path / name, display, teachers=tmp_path / "teachers")

    point = learned()
    shop("a", Display(quiet=True)).teacher(point)
    (kept,) = (tmp_path / "teachers").glob("*.safetensors")
    local = Baseline(name="local")
    first = shop("b", Killing(1)).baseline(point, local)  # would be killed by the first epoch of a training
    alone = Workshop(few, 3, tmp_path / "c", Display(quiet=True)).baseline(point, local)
    assert model_id(first) == model_id(alone)
    assert first.history == alone.history
    assert len(first.history) == 2
    for other in (learned(training__teacher_epochs=3), learned(training__batch_size=8)):
        with pytest.raises(Killed):
            shop("d", Killing(1)).teacher(other)
    with pytest.raises(Killed):
        shop("e", Killing(1), seed=4).teacher(point)
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    with pytest.raises(Killed):
        shop("f", Killing(1)).teacher(point)
    again = shop("g", Display(quiet=True)).baseline(point, local)
    assert model_id(again) == model_id(alone)
    shop("h", Killing(1)).teacher(point)  # mended


def test_a_network_whose_code_has_changed_is_trained_anew(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "edited_backbone.py"
    source.write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = {"backbone": "edited_backbone:make", "cut": "1", "bottleneck": {"name": "float16"}}
    point = learned(model=model)

    def shop(display: Display) -> Workshop:
        return Workshop(few, 3, tmp_path / "a", display, teachers=tmp_path / "teachers")

    shop(Display(quiet=True)).teacher(point)
    shop(Killing(1)).teacher(point)  # would be killed by the first epoch of a training
    source.write_text(source.read_text().replace("ReLU", "Tanh"))
    with pytest.raises(Killed):
        shop(Killing(1)).teacher(point)


def test_the_second_process_waits_for_the_first(few: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "teachers"
    shop = Workshop(few, 3, tmp_path / "a", Display(quiet=True), teachers=folder)
    shop.teacher(learned())
    (lock,) = folder.glob("*.lock")
    (kept,) = folder.glob("*.safetensors")
    content = kept.read_bytes()
    kept.unlink()
    waits: list[str] = []

    class Waiting(Killing):
        @contextmanager
        def task(self, description: str, total: int) -> Iterator[Task]:
            waits.append(description)
            kept.write_bytes(content)  # the first has finished,
            fcntl.flock(held, fcntl.LOCK_UN)  # and lets go
            with super().task(description, total) as task:
                yield task

    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        Workshop(few, 3, tmp_path / "b", Waiting(1), teachers=folder).teacher(learned())
    assert waits == ["waiting for digits-cnn, which another process trains"]


def test_a_folder_that_cannot_hold_networks_is_named(few: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shop = Workshop(few, 3, tmp_path / "a", Display(quiet=True), teachers=tmp_path / "file")
    with pytest.raises(OutputError, match=r"trained networks cannot be kept in .*file"):
        shop.teacher(learned())


def test_weights_of_a_file_are_not_trained(few: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(9)
    network = backbones.create("digits-cnn", widths=[2, 2, 2])
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    point = learned(model__weights=str(tmp_path / "w.safetensors"))
    shop = Workshop(few, 3, tmp_path / "models", Killing(1), teachers=tmp_path / "teachers")
    made = shop.baseline(point, Baseline(name="local"))
    assert made.history == ()
    head = bundle.load_device(made.method.bundle).head
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in head.state_dict().items())
    missing = learned(model__weights="w.npz")
    with pytest.raises(ModelError, match=r"weights 'w\.npz': no such file"):
        shop.teacher(missing)


class Levelled(FactorizedBottleneck):
    """Pretends to three rates."""

    levels = 3  # type: ignore[assignment]


def test_every_rate_level_is_a_row(
    workshop: Workshop, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "levelled", Levelled)
    name = {"model__bottleneck": {"name": "levelled", "channels": 4, "beta": 0.1}}
    made = workshop.trained(learned(**name), {})
    assert [(m.method.name, m.method.level) for m in made] == [(f"levelled-level{n}", n) for n in range(3)]
    assert {m.method.bundle for m in made} == {tmp_path / "models" / "levelled"}
    assert all(m.cost == made[0].cost and m.history == made[0].history for m in made)
    cost = made[0].cost
    assert cost.head_bytes > 4 * cost.head_parameters > 0  # medians and tables ship beside the parameters
    shop = Workshop(few, 3, tmp_path / "others", Display(quiet=True))
    some = shop.trained(learned(**name, model__levels=[2, 0]), {})
    assert [m.method.level for m in some] == [2, 0]
    with pytest.raises(ModelError, match="level is 3, allowed are whole numbers of 0 to 2"):
        shop.trained(learned(**name, model__levels=[3]), {})


def test_further_tasks_are_done_from_the_same_bytes(workshop: Workshop, few: Dataset, tmp_path: Path) -> None:
    plain = Workshop(few, 3, tmp_path / "plain", Display(quiet=True))
    (without,) = plain.trained(learned(), {})
    (made,) = workshop.trained(learned(tasks=["parity", "ink"]), {})
    assert model_id(made) == model_id(without)
    device = bundle.load_device(made.method.bundle)
    payloads = device.encode(device.features(torch.from_numpy(few.x_test).float() / 255))
    assert [(task.name, task.metric) for task in made.tasks] == [("parity", "accuracy"), ("ink", "r2")]
    assert {task.payload_bytes for task in made.tasks} == {sum(map(len, payloads)) / len(payloads)}
    assert without.tasks == ()
    with pytest.raises(DataError, match="no task 'kind'"):
        Workshop(few, 3, tmp_path / "never", Killing(1)).trained(learned(tasks=["kind"]), {})


class Dead(FactorizedBottleneck):
    """Ends its training with an encoder that tells nothing apart."""

    def freeze(self) -> None:
        for parameter in self.encoder[-1].parameters():
            parameter.data.zero_()
        super().freeze()


def test_a_collapsed_model_is_told(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(registry._registered, "dead", Dead)
    (made,) = workshop.trained(learned(model__bottleneck={"name": "dead", "channels": 4, "beta": 0.1}), {})
    (remark,) = made.remarks
    assert remark.startswith("dead has collapsed: 32 training samples give the same payload, ")
    assert f"Note: {remark}." in " ".join(capsys.readouterr().out.split())
