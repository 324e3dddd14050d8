from pathlib import Path
from typing import Any

import pytest

from fedsim.measure import environment
from fedsim.measure.schema import Summary
from fedsim.scenario import Scenario
from fedsim.sweep.units import Unit, differences, state_of, teacher_of, units

SCENARIO: dict[str, Any] = {
    "name": "grid",
    "seeds": [1, 2],
    "data": {"name": "digits"},
    "model": {"backbone": "digits-cnn", "cut": "stage2", "bottleneck": {"name": "factorized"}},
    "baselines": ["local", {"name": "jpeg", "quality": 50}],
    "fleet": [{"count": 1}],
    "sweep": {"model.bottleneck.beta": [0.1, 1.0]},
}


def made(folder: Path, **changes: Any) -> list[Unit]:
    return units(Scenario.model_validate({**SCENARIO, **changes}), [1, 2], folder)


def finish(unit: Unit) -> None:
    """Leave a run of it, without figures."""
    summary = Summary(
        scenario=unit.scenario.resolved(),
        seed=unit.seed,
        environment=environment.describe(),
        duration_s=1.0,
        rows=[],
    )
    summary.write(unit.folder / "summary.json")


def test_a_unit_is_a_point_or_a_baseline_at_a_seed(tmp_path: Path) -> None:
    found = made(tmp_path)
    labels = ["local", "jpeg-50", "factorized-beta0.1", "factorized-beta1.0"]
    assert [(unit.label, unit.seed) for unit in found] == [(n, seed) for seed in (1, 2) for n in labels]
    assert [unit.setting is None for unit in found[:4]] == [True, True, False, False]
    assert [len(unit.scenario.baselines) for unit in found[:4]] == [1, 1, 0, 0]
    assert {unit.scenario.sweep for unit in found} == {()}
    assert found[-1].folder == tmp_path / "points" / "factorized-beta1.0" / "seed-2"
    assert len({teacher_of(unit) for unit in found}) == 2


def test_what_is_finished_is_known_by_what_decides_it(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert all(state_of(unit) == ("open", []) for unit in found)
    for unit in found:
        finish(unit)
    assert all(state_of(unit) == ("finished", []) for unit in found)
    aside = made(tmp_path, name="other", seeds=[2], sweep={"model.bottleneck.beta": [0.1, 1.0, 2.0]})
    assert [state_of(unit)[0] for unit in aside if unit.seed == 1] == ["finished"] * 4 + ["open"]


@pytest.mark.parametrize(
    ("changes", "states", "said"),
    [
        (
            {"training": {"epochs": [1, 1]}},
            ["finished", "finished", "changed", "changed"],
            "training.epochs was [20, 10] and is now [1, 1]",
        ),
        (
            {"training": {"teacher_epochs": 3}},
            ["changed"] * 4,
            "training.teacher_epochs was 30 and is now 3",
        ),
    ],
)
def test_what_was_made_for_another_scenario_is_told_with_what_differs(
    tmp_path: Path, changes: dict[str, Any], states: list[str], said: str
) -> None:
    for unit in made(tmp_path):
        finish(unit)
    found = [state_of(unit) for unit in made(tmp_path, **changes)[:4]]
    assert [state for state, _ in found] == states
    assert found[-1][1] == [said]


def test_what_was_made_of_other_inputs_is_told(tmp_path: Path) -> None:
    unit = made(tmp_path)[2]
    finish(unit)
    summary = Summary.read(unit.folder / "summary.json")
    summary.model_copy(update={"inputs": {"the code of 'a:B'": "1"}}).write(unit.folder / "summary.json")
    assert state_of(unit, {"the code of 'a:B'": "1", "the data": "3"}) == ("finished", [])
    assert state_of(unit, {"the code of 'a:B'": "2"}) == ("changed", ["the code of 'a:B' has changed"])


def test_a_damaged_summary_is_no_finished_unit(tmp_path: Path) -> None:
    unit = made(tmp_path)[0]
    finish(unit)
    (unit.folder / "summary.json").write_text("{")
    state, (why,) = state_of(unit)
    assert state == "changed"
    assert "cannot be read as JSON" in why


def test_differences_name_the_key_and_both_values() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c was 2 and is now 3",
        "d was null and is now 4",
    ]
