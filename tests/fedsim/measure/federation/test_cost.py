"""What rounds cost on their links: figures, tables, a picture."""

from pathlib import Path

import pytest
from PIL import Image

from fedsim.federated.evaluation import Result
from fedsim.federated.pricing.priced import EnergyUse, PricedRound, PricedRun
from fedsim.federated.rounds import RoundRecord
from fedsim.measure.federation.cost import cost_of
from fedsim.measure.federation.cost_plots import cost_figure, plot_cost
from fedsim.measure.federation.schema import Federation
from fedsim.measure.federation.summary import MethodRun, accuracies, summarise_federation
from fedsim.measure.federation.table import print_federation

from .federations import console_of, site

#: Behind each round: of 1,000 samples that three clients tested with, how many the head told rightly.
RIGHT = (500, None, 896, 890, 900)
ENERGY = EnergyUse(compute_j=1.0, down_j=2.0, up_j=3.0)


def run(rest_w: float | None = 2.0, energy: EnergyUse = ENERGY) -> PricedRun:
    """Five rounds of 1, 2, 3, 4 and 5 seconds."""
    ends = [0, 1, 3, 6, 10, 15]
    rounds = [
        PricedRound(n, ends[n - 1], ends[n], n % 2, 0.1 * n, (2,) * (n == 5), 100 * n, 10 * n, energy)
        for n in range(1, 6)
    ]
    heard = energy.down_j is not None
    return PricedRun(rounds, rest_w, *((0.5, 4.0, 2.5) if heard else (None,) * 3), ["a note"], [])


def federation(*runs: PricedRun | None) -> Federation:
    """A method for each run, with these results."""
    records = [
        RoundRecord(
            number,
            (0, 1, 2),
            (0, 1, 2),
            results={} if right is None else {0: [Result("head", "all", "global", right, 1000)]},
        )
        for number, right in enumerate(RIGHT, 1)
    ]
    methods = [MethodRun(f"m{place}", "fedavg", records, priced=one) for place, one in enumerate(runs)]
    return summarise_federation(site(), methods, [], 5, ["a number is not verified"])


def test_figures_by_hand() -> None:
    (row,) = federation(run()).rows
    cost = row.cost
    assert cost is not None
    assert (cost.duration_s, cost.round_mean_s, cost.round_worst_s) == (15.0, 3.0, 5.0)
    assert cost.round_p95_s == pytest.approx(4.8)
    assert cost.straggler is not None
    assert (cost.straggler.client, cost.straggler.rounds) == ("device-1", 3)
    assert cost.behind_mean_s == pytest.approx(0.3)
    assert (cost.down_wire_bytes, cost.up_wire_bytes) == (1500, 150)
    used = cost.joules
    assert (used.compute, used.down, used.up, used.afterwards) == (5.0, 10.0, 15.0, 2.5)
    assert (used.promotion, used.tail, used.rest) == (0.5, 4.0, 30.0)
    assert used.total == 5 + 10 + 15 + 30 + 2.5
    assert [one.joules_so_far for one in cost.rounds] == [8, 18, 30, 44, 60]
    assert [one.joules for one in cost.rounds] == [6.0] * 5
    assert cost.rounds[4].beyond == ["device-2"]
    assert cost.rounds[0].straggler == "device-1"
    assert row.remarks == ["m0: a note"]


def test_when_the_best_was_nearly_reached() -> None:
    (row,) = federation(run()).rows
    assert row.cost is not None
    (one,) = row.cost.reached
    assert (one.predictor, one.classes, one.test) == ("head", "all", "global")
    assert (one.best, one.target, one.round, one.accuracy) == (0.9, pytest.approx(0.89), 3, 0.896)
    assert (one.time_s, one.joules) == (6.0, 30.0)
    assert (one.down_wire_bytes, one.up_wire_bytes) == (600, 60)


def test_what_is_not_known_is_null_and_so_is_every_sum_of_it() -> None:
    cost = cost_of(run(None, EnergyUse(1.0, None, None)), [[]] * 5)
    used = cost.joules
    assert used.compute == 5.0
    assert used.down is used.up is used.afterwards is used.rest is used.total is None
    assert cost.rounds[0].joules is cost.rounds[0].joules_so_far is None
    assert cost.reached == []


def test_nothing_is_said_of_a_fleet_without_links() -> None:
    found = federation(None)
    assert found.rows[0].cost is None
    console, said = console_of(200)
    print_federation(found, "small", console)
    assert "links" not in said()


def test_tables_at_any_width() -> None:
    found = federation(run(), run(None, EnergyUse(1.0, None, None)), None)
    for width in (80, 200):
        console, said = console_of(width)
        print_federation(found, "small", console)
        assert "small: rounds on their links" in said()
        assert "Note: a number is not verified." in said()
        assert max(map(len, said().splitlines())) <= width
    lines = said().splitlines()
    known, unknown = (
        [line.split() for line in lines if line.startswith(f"m{n} ") and "device-1" in line] for n in (0, 1)
    )
    rounds = ["3", "4.8", "5", "15", "device-1", "(3)", "0.3", "300", "30"]
    reached = ["89.0", "3", "6"]
    assert known == [["m0", *rounds, "5", "27.5", "4", "30", "62.5", "12.5", *reached, "30", "660"]]
    assert unknown == [["m1", *rounds, "5", *["unavailable"] * 5, *reached, "unavailable", "660"]]
    assert len([line for line in lines if line.startswith("m2 ")]) < len(
        [line for line in lines if line.startswith("m1 ")]
    )


def test_accuracy_against_time_and_joules(tmp_path: Path) -> None:
    found = federation(run(), run(None, EnergyUse(1.0, None, None)))
    time, joules = cost_figure(found, "small").axes
    points = [(1, 0.5), (6, 0.896), (10, 0.89), (15, 0.9)]  # rounds that were evaluated
    assert [[tuple(point) for point in line.get_xydata()] for line in time.get_lines()] == [points] * 2
    (line,) = joules.get_lines()
    assert line.get_xydata()[:, 0].tolist() == [8, 30, 44, 60]
    assert time.get_xscale() == joules.get_xscale() == "log"
    assert "all classes, global test" in time.get_title()
    (alone,) = cost_figure(federation(run(None)), "small").axes
    assert "time" in alone.get_xlabel()
    plot_cost(found, "small", tmp_path / "cost.png")
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.format == "PNG"


def test_results_are_those_of_the_round() -> None:
    (row,) = federation(run()).rows
    assert row.rounds[1].accuracy == accuracies({}) == []
