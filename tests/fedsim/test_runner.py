"""What a run leaves behind when it fails, and on which part of the data it is tested."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fedsim import data, runner
from fedsim.engines import inprocess
from fedsim.errors import EngineError, FedsimError, SamplesFailedError, TrainingError
from fedsim.measure.schema import Summary
from fedsim.scenario import Scenario
from fedsim.scenario_sections import DataSection

TINY = Scenario.model_validate(
    {
        "name": "tiny",
        "data": {"name": "digits"},
        "model": {
            "backbone": "digits-cnn",
            "backbone_arguments": {"widths": [2, 4, 4]},
            "cut": "stage2",
            "bottleneck": {"name": "factorized", "channels": 2, "beta": 0.1},
        },
        "training": {"teacher_epochs": 1, "epochs": [1, 1], "batch_size": 400},
        "fleet": [{"count": 1}],
        "engine": "inprocess",
    }
)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (EngineError("engine"), True),
        (OSError(28, "No space left on device"), True),
        (TrainingError("t"), False),
    ],
)
def test_trainings_are_kept_where_they_were_not_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kept: bool
) -> None:
    out, said = tmp_path / "out", io.StringIO()

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(inprocess, "run", fail)
        with pytest.raises((FedsimError, OSError)):
            runner.run(TINY, out, False, Console(file=said))
    assert (tmp_path / ".out.checkpoints").is_dir() is kept
    runner.run(TINY, out, False, Console(file=said))
    assert ("goes on after epoch" in said.getvalue()) is kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_training_computes_with_the_threads_that_the_scenario_names(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    training = TINY.training.model_copy(update={"threads": before + 1})
    runner.run(
        TINY.model_copy(update={"training": training}),
        tmp_path / "out",
        False,
        Console(quiet=True),
        quiet=True,
    )
    assert Summary.read(tmp_path / "out" / "summary.json").environment.threads == before + 1
    assert torch.get_num_threads() == before


def test_validation_tests_on_a_part_of_the_training_set_and_says_so(tmp_path: Path) -> None:
    said = io.StringIO()
    choosing = TINY.model_copy(update={"data": DataSection(name="digits", validation=0.1)})
    runner.run(choosing, tmp_path / "out", False, Console(file=said, width=140))
    (row,) = Summary.read(tmp_path / "out" / "summary.json").rows
    assert row.samples == len(data.load("digits", 0.1).x_test) == 120
    assert (
        "Note: tested on 10% of the training set, kept out of training; not on the test set."
        in said.getvalue()
    )


def test_more_failures_than_a_scenario_allows_are_told_and_the_results_stay(tmp_path: Path) -> None:
    """Nobody hears of a sample whose packets are all lost."""
    lossy = {
        **TINY.model_dump(mode="json"),
        "model": {**TINY.model.model_dump(), "bottleneck": {"name": "png"}},
    }
    lossy["model"] |= {"cut": "input"}
    lossy["fleet"] = [{"count": 1, "erasure": 1.0}]
    for most, raises in ((None, False), (1.0, False), (0.5, True)):
        out = tmp_path / str(most)
        scenario = Scenario.model_validate(lossy | {"most_failed": most})
        if raises:
            with pytest.raises(
                SamplesFailedError, match=r"599 of 599 samples of png failed; .* 0\.5"
            ) as found:
                runner.run(scenario, out, False, Console(file=io.StringIO()))
            assert found.value.exit_code == 1
        else:
            runner.run(scenario, out, False, Console(file=io.StringIO()))
        assert Summary.read(out / "summary.json").rows[0].outcomes.failed == 599
