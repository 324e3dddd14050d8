"""What a run leaves behind when it fails."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedsim import runner
from fedsim.engines import inprocess
from fedsim.errors import EngineError, FedsimError, TrainingError
from fedsim.scenario import Scenario

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
