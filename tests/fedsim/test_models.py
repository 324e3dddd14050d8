from pathlib import Path
from typing import Any

import pytest

from edge import bundle
from edge.bottlenecks import registry
from edge.bottlenecks.raw_features import Integer
from fedsim import data
from fedsim.data import Dataset
from fedsim.errors import ModelError
from fedsim.models import Workshop
from fedsim.progress import Display
from fedsim.scenario import Baseline, Scenario

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
        "digits", 10, whole.x_train[train], whole.y_train[train], whole.x_test[test], whole.y_test[test]
    )


@pytest.fixture
def workshop(few: Dataset, tmp_path: Path) -> Workshop:
    return Workshop(few, 3, tmp_path / "models", Display(quiet=True))


def test_rate_is_the_same_whether_a_baseline_or_the_model_sends_it(workshop: Workshop) -> None:
    point = scenario({"name": "integer", "bits": 4})
    mine = workshop.trained(point, {})
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
        lambda: workshop.trained(point, {}),
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
        made = shop.trained(scenario({"name": "float16"}), {})
        ids.append(bundle.load_device(made.method.bundle).model_id)
    assert ids[0] == ids[1] != ids[2]
