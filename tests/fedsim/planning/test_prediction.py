"""Costs of candidates: what their runs have found, and what is predicted from their ledgers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.measure.schema import Energy, Latency, Percentiles
from fedsim.planning import Candidate, Costs, PlanningError, Trained, read
from fedsim.planning.prediction import costs_of, predict, predicted, summarised
from fedsim.planning.replay import material_of
from fedsim.scenario import Scenario

from .folders import LARGE, LOCAL, SCENARIO, SMALL, make_run
from .settings import ROWS

FLEET = [{"count": 4, "device": "raspberry-pi-4", "link": "lte-2012"}]


def fleet(**changes: Any) -> Scenario:
    return Scenario.model_validate(SCENARIO | {"engine": "virtual", "fleet": FLEET} | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("planned") / "run", [LOCAL, SMALL, LARGE])


@pytest.fixture(scope="module")
def candidates(run: Path) -> list[Candidate]:
    return read([run])[0]


@pytest.fixture(scope="module")
def costs(candidates: list[Candidate]) -> list[Costs]:
    return predict(fleet(), candidates)


def test_what_a_ledger_tells_of_each_sample(run: Path, tmp_path: Path) -> None:
    _, small, large = read([run])[0]
    made = material_of(small.typical)
    assert made.payload_bytes.tolist() == [16, 17] * 20
    assert made.frame_bytes.tolist() == [27, 28] * 20
    assert made.ideal_bits[:2].tolist() == [8 * 16 - 9, 8 * 17 - 9]
    assert (made.labels == 1).all()
    assert made.predictions.tolist() == [0] * 4 + [1] * 36
    assert material_of(read([run])[0][0].typical).payload_bytes.tolist() == [0] * 40
    lost, _ = read([make_run(tmp_path / "lost", [replace(SMALL, failed=10)])])
    assert len(material_of(lost[0].typical).labels) == 30
    nothing = replace(large.typical, row=large.typical.row.model_copy(update={"method": "absent"}))
    with pytest.raises(PlanningError, match=r"absent: no sample was answered by it"):
        material_of(nothing)


def test_a_prediction_has_the_payloads_of_the_run_on_the_link_of_the_fleet(costs: list[Costs]) -> None:
    local, small, large = costs
    assert local.wire_bytes == 0
    assert small.wire_bytes is not None
    assert large.wire_bytes is not None
    assert large.wire_bytes - small.wire_bytes == pytest.approx(48, abs=1)
    assert local.latency_p50_ms is not None
    assert small.latency_p50_ms is not None
    assert small.latency_p50_ms > local.latency_p50_ms + 70  # there and back over 35 ms
    assert [one.failed for one in costs] == [0, 0, 0]


def test_a_prediction_has_the_joules_of_device_and_radio(costs: list[Costs]) -> None:
    local, small, _ = costs
    assert local.joules is not None
    assert small.joules is not None
    assert set(local.energy) >= {"head", "base"}
    assert small.energy["tail"] > 0
    parts = [small.energy.get(cause, 0) for cause in ("head", "encode", "send", "promotion", "tail")]
    assert small.joules == pytest.approx(sum(parts))


def test_without_a_device_there_are_no_joules(candidates: list[Candidate]) -> None:
    (one,) = predict(fleet(fleet=[{"count": 2}]), candidates[1:2])
    assert (one.joules, one.energy) == (None, {})


def test_the_same_seed_predicts_the_same_bytes(candidates: list[Candidate], costs: list[Costs]) -> None:
    again = predict(fleet(), candidates)
    assert [one.wire_bytes for one in again] == [one.wire_bytes for one in costs]
    assert [one.latency_p95_ms for one in again[:1]] == [one.latency_p95_ms for one in costs[:1]]


def test_a_model_that_is_damaged_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [SMALL])
    (run / "models" / "integer-4" / "device" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(PlanningError, match=r"^integer-4: .*weights.safetensors"):
        predict(fleet(), read([run])[0])


def test_what_has_no_answer_in_time_fails(candidates: list[Candidate]) -> None:
    (one,) = predict(fleet(fleet=[{**FLEET[0], "deadline_s": 0.001}]), candidates[1:2])
    assert (one.failed, one.latency_p50_ms) == (1, None)


def virtual(one: Candidate, scenario: Scenario, seeds: tuple[int, ...] = (1,)) -> Candidate:
    """The candidate, had it been run in virtual time on the fleet of a scenario."""
    document = scenario.resolved()
    trained = []
    for seed in seeds:
        energy = Energy(
            head_j=0.002 * seed,
            incremental_j=0.01 * seed,
            total_j=1,
            per_correct_j=None,
            sample_j=Percentiles(p50=1, p95=1),
            provenance="modelled",
        )
        row = one.typical.row.model_copy(
            update={"energy": energy, "response_ms": Latency(p50=10.0 * seed, p95=20.0 * seed)}
        )
        trained.append(Trained(Path("run"), Path("run"), seed, document, None, row))
    return replace(one, trained=tuple(trained))


def test_what_the_runs_have_found_on_this_fleet_is_taken(candidates: list[Candidate]) -> None:
    scenario = fleet(name="other", seed=9)
    ran = virtual(candidates[0], scenario, (1, 2))
    found = summarised(scenario, ran)
    assert found is not None
    assert (found.latency_p50_ms, found.latency_p95_ms, found.wire_bytes, found.failed) == (15, 30, 0, 0)
    assert found.joules == pytest.approx(0.015)
    assert found.energy == {"head": pytest.approx(0.003)}
    assert predicted(scenario, [ran]) == [found]


@pytest.mark.parametrize(
    "changes",
    [
        {"fleet": [{**FLEET[0], "count": 5}]},
        {"fleet": [{**FLEET[0], "deadline_s": 9.0}]},
        {"server": {"workers": 2}},
        {"duration_s": 60.0},
        {"engine": "inprocess", "fleet": [{"count": 4}]},
    ],
)
def test_what_they_have_found_on_another_is_not(candidates: list[Candidate], changes: dict[str, Any]) -> None:
    assert summarised(fleet(), virtual(candidates[0], fleet(**changes))) is None


def test_what_is_known_and_what_is_not_come_in_the_order_of_the_candidates(
    candidates: list[Candidate], costs: list[Costs]
) -> None:
    ran = virtual(candidates[0], fleet())
    found = predicted(fleet(), [candidates[1], ran, candidates[2]])
    assert [one.wire_bytes for one in found] == [costs[1].wire_bytes, 0, costs[2].wire_bytes]
    assert found[1] == summarised(fleet(), ran)


def test_the_latency_is_from_when_a_sample_was_due_where_that_is_known() -> None:
    row = ROWS[False]
    assert costs_of(row).latency_p95_ms == row.latency_ms["total"].p95
    due = row.model_copy(update={"response_ms": Latency(p50=7, p95=9)})
    assert (costs_of(due).latency_p50_ms, costs_of(due).latency_p95_ms) == (7, 9)
    assert costs_of(row).joules is None


@pytest.mark.parametrize("figures", [{"joules": -1.0}, {"wire_bytes": np.nan}, {"failed": 1.5}])
def test_costs_that_cannot_be(figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"finite, and at least 0|more samples failed"):
        Costs(1, 2, **figures)
