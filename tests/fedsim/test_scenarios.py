from pathlib import Path

import pytest

from fedsim.scenario import load

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_every_scenario_that_we_ship_is_valid_and_named_after_its_file(path: Path) -> None:
    assert load(path).name == path.stem


def test_there_is_a_quickstart() -> None:
    assert "quickstart.yaml" in {path.name for path in SCENARIOS}
