from pathlib import Path
from typing import Any

import pytest

from fedsim.scenario import Scenario
from fedsim.sweep.collect import families_of
from fedsim.sweep.units import units

SCENARIO: dict[str, Any] = {
    "name": "grid",
    "data": {"name": "digits"},
    "model": {"backbone": "digits-cnn", "cut": "stage2", "bottleneck": {"name": "factorized", "beta": 1.0}},
    "baselines": ["local", "png"],
    "fleet": [{"count": 1}],
}
OTHER = {"model.bottleneck": [{"name": "bottlefit"}], "training.recipe": ["bottlefit"]}


@pytest.mark.parametrize(
    ("grid", "families"),
    [
        ({}, {"factorized"}),
        ({"training.recipe": ["end-to-end"]}, {"factorized"}),
        (
            {"training.recipe": ["end-to-end", "entropic-student"]},
            {"factorized (end-to-end)", "factorized (entropic-student)"},
        ),
        ({"model.cut": ["stage1", "stage2"]}, {"factorized at stage1", "factorized at stage2"}),
    ],
)
def test_a_family_says_what_tells_it_from_others_and_no_more(
    grid: dict[str, Any], families: set[str], tmp_path: Path
) -> None:
    scenario = Scenario.model_validate({**SCENARIO, "sweep": [grid, OTHER]})
    other = "bottlefit at stage2" if "model.cut" in grid else "bottlefit"
    found = families_of(units(scenario, [1, 2], tmp_path))
    assert set(found.values()) == {"local", "png", other, *families}
