import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsim.measure.schema import SummaryError
from fedsim.measure.statistics import t_interval, wilson_interval
from fedsim.planning import PlanningError, read

from .folders import LARGE, LOCAL, SMALL, Method, make_run, make_sweep
from .settings import trained


def test_the_rows_of_a_run(tmp_path: Path) -> None:
    found, notes = read([make_run(tmp_path / "run", [LOCAL, SMALL, LARGE], seed=5)])
    assert notes == []
    assert [(one.name, one.spec.cut, one.spec.bottleneck, one.local) for one in found] == [
        ("local", "output", None, True),
        ("integer-4", "stage2", "integer", False),
        ("float16", "stage2", "float16", False),
    ]
    assert [one.accuracy for one in found] == [39 / 40, 36 / 40, 39 / 40]
    assert [one.payload_bytes for one in found] == [0, 16.5, 64.5]
    assert found[1].accuracy_interval == wilson_interval(36, 40)
    (trained,) = found[1].trained
    assert (trained.seed, trained.run, trained.bundle) == (
        5,
        tmp_path / "run",
        tmp_path / "run/models/integer-4",
    )


def test_the_seeds_of_a_sweep_are_one_candidate(tmp_path: Path) -> None:
    found, _ = read([make_sweep(tmp_path / "sweep", [LOCAL, SMALL], [3, 1, 2])])
    (small,) = [one for one in found if not one.local]
    assert [one.seed for one in small.trained] == [1, 2, 3]
    assert small.accuracy == pytest.approx(35 / 40)
    low, high = t_interval([36 / 40, 35 / 40, 34 / 40]) or (0, 0)
    assert small.accuracy_interval == pytest.approx((low, min(1, high)))
    assert (small.typical.seed, small.typical.right) == (1, 35)
    assert small.typical.bundle.is_dir()


def test_runs_of_other_seeds_are_added_to_it(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / f"run-{seed}", [SMALL], seed) for seed in (7, 8)]
    (one,), _ = read(folders)
    assert [trained.seed for trained in one.trained] == [7, 8]


def test_the_levels_of_one_model_are_candidates_of_one_bundle(tmp_path: Path) -> None:
    levels = [Method(f"float16-level{level}", level=level, payload=8 * level + 8) for level in (0, 1)]
    found, _ = read([make_run(tmp_path / "run", levels)])
    assert [(one.name, one.level, one.trained[0].bundle.name) for one in found] == [
        ("float16-level0", 0, "float16"),
        ("float16-level1", 1, "float16"),
    ]


@pytest.mark.parametrize(
    "changes", [{"training": {"teacher_epochs": 3}}, {"model": {"cut": "stage1"}}, {"other": "arguments"}]
)
def test_one_name_for_two_models_is_two_candidates(tmp_path: Path, changes: dict[str, Any]) -> None:
    method = SMALL
    if "model" in changes:
        method = replace(SMALL, cut="stage1")
    elif "other" in changes:
        method = replace(SMALL, arguments=(("bits", 6),))
    first = make_run(tmp_path / "one", [SMALL])
    second = make_run(tmp_path / "two", [method], changes=changes if "training" in changes else {})
    found, _ = read([first, second])
    assert [one.name for one in found] == [f"integer-4 ({first})", f"integer-4 ({second})"]


def test_what_has_no_accuracy_is_left_out_and_told(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run", [SMALL, replace(LARGE, labelled=False), replace(LARGE, name="lost", failed=40)]
    )
    found, notes = read([run])
    assert [one.name for one in found] == ["integer-4"]
    assert notes == [
        f"float16 of {run} is left out: its accuracy is not known",
        f"lost of {run} is left out: all of its samples failed",
    ]
    with pytest.raises(PlanningError, match=r"no trained result in it with an accuracy \(float16 of"):
        read([make_run(tmp_path / "other", [replace(LARGE, labelled=False)])])


def test_what_the_fleet_of_the_run_lost_is_not_the_models_fault(tmp_path: Path) -> None:
    (one,), _ = read([make_run(tmp_path / "run", [replace(SMALL, failed=10)])])
    assert one.accuracy == 26 / 30


def test_a_folder_that_is_none_of_both(tmp_path: Path) -> None:
    with pytest.raises(PlanningError, match=r"--from .*absent: no such folder; expected a run folder"):
        read([tmp_path / "absent"])
    with pytest.raises(PlanningError, match="holds no finished run"):
        read([tmp_path])
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(SummaryError, match="schema is None"):
        read([tmp_path])


def test_a_bundle_that_is_missing_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL])
    shutil.rmtree(run / "models" / "integer-4")
    with pytest.raises(
        PlanningError, match=r"run: the model of integer-4: .*models/integer-4 holds no device"
    ):
        read([run])


def test_a_training_that_is_given_twice_is_told(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, [SMALL], seed=4) for name in ("one", "two")]
    with pytest.raises(PlanningError, match=r"integer-4, seed 4, stands in .*one and .*two; give one"):
        read(runs)


def test_accuracies_of_different_test_sets_are_not_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", [SMALL])
    other = make_run(tmp_path / "other", [LARGE], changes={"data": {"name": "digits"}})
    with pytest.raises(PlanningError) as caught:
        read([one, other])
    assert f'{one} was tested on 20% of the training set of "digits"' in str(caught.value)
    assert f'{other} on the test set of "digits"' in str(caught.value)
    name = "the data set 'digits'"
    digests = [
        make_run(tmp_path / digest, [replace(SMALL, name=digest)], inputs={name: digest})
        for digest in ("aa", "bb")
    ]
    assert len(read([one, digests[0]])[0]) == 2
    with pytest.raises(PlanningError, match=r"aa and .*bb have one name, and are not the same"):
        read([one, *digests])


def test_keys_that_an_older_version_did_not_have_make_no_difference(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"run-{seed}", [SMALL], seed) for seed in (1, 2)]
    path = runs[0] / "summary.json"
    document = json.loads(path.read_text())
    del document["scenario"]["data"]["partition"]
    path.write_text(json.dumps(document))
    assert len(read(runs)[0]) == 1


def test_answers_of_another_network_are_told(tmp_path: Path) -> None:
    (one,), _ = read([make_run(tmp_path / "run", [SMALL])])
    (trained,) = one.trained
    outcomes = trained.row.outcomes.model_copy(update={"answered": 35, "local": 5})
    row = trained.row.model_copy(update={"outcomes": outcomes, "remarks": ["it has collapsed"]})
    told = list(replace(one, trained=(replace(trained, row=row),)).notes)
    assert told == [
        "it has collapsed",
        "integer-4, seed 1: 5 of 40 samples were answered on the device, by another network",
    ]


def test_samples_that_came_again_narrow_no_interval() -> None:
    """As the summary of the run has it, which knows how many there are in the data."""
    once = trained(900, accuracy_interval=wilson_interval(90, 100))
    assert once.interval == wilson_interval(90, 100)
