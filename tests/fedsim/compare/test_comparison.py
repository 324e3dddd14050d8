from pathlib import Path

import numpy as np
import pytest

from edge.meter import STAGES, Event
from fedsim.compare import Comparison, ComparisonError, MethodComparison, compare
from fedsim.measure.ledger import LedgerError
from fedsim.measure.schema import SummaryError

from .folders import SCENARIO, sample, write_run


def both(tmp_path: Path, simulated: list[Event], measured: list[Event], **of_simulated: object) -> Comparison:
    return compare(
        write_run(tmp_path / "simulated", simulated, **of_simulated),  # type: ignore[arg-type]
        write_run(tmp_path / "measured", measured),
    )


def only(comparison: Comparison) -> MethodComparison:
    (method,) = comparison.methods
    return method


def series(factor: float = 1.0, count: int = 21, **rest: object) -> list[Event]:
    """Samples whose send takes ``factor`` times 10, 11, ... ms, behind a head of 5 ms."""
    events = []
    for number in range(count):
        send = factor * (10 + number)
        events += sample(
            number,
            ms={"head": 5.0, "send": send, "total": 5.0 + send},
            **rest,  # type: ignore[arg-type]
        )
    return events


def test_errors_are_of_the_prediction_against_what_was_measured(tmp_path: Path) -> None:
    one = only(both(tmp_path, series(1.1, provenance="modelled"), series()))
    assert list(one.timings) == ["head", "send", "total"]
    send = one.timings["send"]
    assert (send.simulated.mean, send.measured.mean) == pytest.approx((22.0, 20.0))
    assert (send.simulated.p50, send.measured.p50) == pytest.approx((22.0, 20.0))
    assert (send.simulated.p95, send.measured.p95) == pytest.approx((1.1 * 29, 29))
    assert [send.error(figure) for figure in ("mean", "p50", "p95")] == pytest.approx([0.1] * 3)
    total = one.timings["total"]
    assert total.error("mean") == pytest.approx(2 / 25)
    assert total.error("p95") == pytest.approx(2.9 / 34)
    assert send.provenance == ("modelled", "measured")
    assert one.timings["head"].error("mean") == 0
    assert [list(values) for values in one.totals_ms] == [
        pytest.approx([5 + 1.1 * (10 + i) for i in range(21)]),
        pytest.approx([15 + i for i in range(21)]),
    ]


def test_the_meters_of_a_machine_are_no_stage(tmp_path: Path) -> None:
    meter = Event("r", "png", "package-0", "machine-package", 1e9, 2.0, "measured", joules=40.0)
    one = only(both(tmp_path, [*series(), meter], [*series(), meter]))
    assert list(one.timings) == ["head", "send", "total"]
    assert not one.joules


def test_an_error_comes_with_what_it_could_be_by_noise(tmp_path: Path) -> None:
    one = only(both(tmp_path, series(1.02), series()))
    send = one.timings["send"]
    low, high = send.intervals["mean"]
    assert low < 20 < high
    assert send.within_noise("mean") is True
    interval = send.error_interval("mean")
    assert interval == pytest.approx((20.4 / high - 1, 20.4 / low - 1))
    assert send.within_noise("p50") is send.error_interval("p50") is None
    exact = only(both(tmp_path, series(count=17), series())).timings["head"]
    assert (exact.intervals["mean"], exact.within_noise("mean")) == (pytest.approx((5, 5)), True)
    far = only(both(tmp_path, series(5.0), series()))
    assert far.timings["send"].within_noise("mean") is False
    few = only(both(tmp_path, series(count=5), series(count=5)))
    assert few.timings["send"].intervals == {}


def test_a_stage_that_is_off_by_less_than_a_hundredth_of_the_total_is_slight(tmp_path: Path) -> None:
    def run(encode: float, send: float) -> list[Event]:
        return [
            event
            for number in range(12)
            for event in sample(number, ms={"encode": encode, "send": send, "total": 100.0})
        ]

    timings = only(both(tmp_path, run(0.1, 90), run(1.0, 91.1))).timings
    assert (timings["encode"].slight, timings["send"].slight, timings["total"].slight) == (True, False, False)
    assert timings["encode"].error("mean") == pytest.approx(-0.9)


def test_response_counts_from_when_a_sample_was_due(tmp_path: Path) -> None:
    def run(late_s: float) -> list[Event]:
        return [event for i in range(4) for event in sample(i, start_s=100.0 + i, due_s=100.0 + i - late_s)]

    response = only(both(tmp_path, run(0.5), run(0.25))).timings["response"]
    assert (response.simulated.mean, response.measured.p95) == pytest.approx((506, 256))
    without = only(both(tmp_path, run(0.5), [*run(0.25), *sample(4)]))
    assert list(without.timings) == list(STAGES)


def test_latencies_are_of_samples_that_ended_well(tmp_path: Path) -> None:
    slow = {"head": 900.0, "total": 5000.0}
    fine = [event for number in range(4) for event in sample(number)]
    measured = [*fine, *sample(4, ms=slow, outcome="failed"), *sample(5, ms={"total": 8.0}, outcome="local")]
    one = only(both(tmp_path, fine, measured))
    assert one.timings["head"].measured.mean == pytest.approx(1.0)
    assert one.timings["total"].measured.mean == pytest.approx((4 * 6 + 8) / 5)
    assert one.outcomes == (
        {"answered": 4, "local": 0, "failed": 0},
        {"answered": 4, "local": 1, "failed": 1},
    )


def test_readings_stand_in_the_order_of_time_for_their_noise(tmp_path: Path) -> None:
    """Latencies that rise and fall slowly have a longer interval than the same ones shuffled."""
    wave = 50 + 20 * np.sin(np.arange(300) / 12)
    shuffled = np.random.default_rng(1).permutation(wave)

    def run(values: np.ndarray) -> list[Event]:
        rows = [(1e9 + i, value) for i, value in enumerate(values)]
        rows = [rows[i] for i in np.random.default_rng(2).permutation(300)]  # as a ledger may have them
        return [
            event
            for number, (begun, value) in enumerate(rows)
            for event in sample(number, ms={"total": value}, start_s=begun)
        ]

    ends = [
        only(both(tmp_path, run(wave), run(values))).timings["total"].intervals["mean"]
        for values in (wave, shuffled)
    ]
    assert ends[0][1] - ends[0][0] > 2 * (ends[1][1] - ends[1][0])


def test_bytes_are_compared_sample_by_sample(tmp_path: Path) -> None:
    simulated = [event for i in range(6) for event in sample(i, sent={"wire_bytes": 300, "frame_bytes": 120})]
    changed = {
        "payload_bytes": 100,
        "ideal_bits": 8.0 * 103 - 2.5,  # of sample 3, half a bit more
        "frame_bytes": 150,
        "wire_bytes": 360,
    }
    measured = [
        *(e for i in range(1, 3) for e in sample(i, sent={"wire_bytes": 300, "frame_bytes": 120})),
        *sample(3, sent=changed),
        *sample(4, outcome="failed"),
        *sample(9),
    ]
    one = only(both(tmp_path, simulated, measured))
    payload, frame, ideal = one.sizes["payload"], one.sizes["frame"], one.sizes["ideal"]
    assert (payload.samples, payload.equal, payload.largest) == (3, 2, 3.0)
    assert payload.largest_error == pytest.approx(0.03)
    assert (payload.simulated, payload.measured) == pytest.approx((102, 101))
    assert (frame.samples, frame.equal, frame.largest) == (3, 2, 30.0)
    assert (ideal.samples, ideal.equal, ideal.largest) == (3, 3, pytest.approx(0.5 / 8))
    # Sample 9 has no count of the wire, so that there is no mean of the measured run.
    assert (one.carried["wire"].simulated, one.carried["wire"].measured) == (300, None)
    assert list(one.carried) == ["wire"]


def test_streams_are_divided_among_the_samples_that_were_answered(tmp_path: Path) -> None:
    samples = [event for i in range(4) for event in sample(i)]
    stream = Event("r", "png", "device-0", "stream", 1e9, 1.0, "measured", wire_bytes=1000)
    carried = only(both(tmp_path, samples, [*samples, stream, *sample(4, outcome="failed")])).carried
    assert (carried["stream"].simulated, carried["stream"].measured) == (None, 250)


def test_energy_is_compared_where_both_know_it(tmp_path: Path) -> None:
    def run(head: float, base: float, provenance: str) -> list[Event]:
        of_sample = {"head": head, "total": head + 1}
        events = [e for i in range(4) for e in sample(i, joules=of_sample, provenance=provenance)]
        events.append(Event("r", "png", "device-0", "base", 0.0, 60.0, "modelled", joules=base))
        return events

    joules = only(both(tmp_path, run(1.2, 44.0, "modelled"), run(1.0, 40.0, "measured"))).joules
    assert list(joules) == ["head", "total", "base"]
    assert (joules["base"].simulated, joules["base"].measured) == (11, 10)
    assert joules["head"].error == pytest.approx(0.2)
    assert joules["total"].provenance == ("modelled", "measured")
    unknown = run(1.0, 40.0, "measured") + sample(4)
    assert list(only(both(tmp_path, run(1.2, 44.0, "modelled"), unknown)).joules) == ["base"]


def test_predictions_are_compared_by_number(tmp_path: Path) -> None:
    simulated = [e for i in range(5) for e in sample(i, label=i % 2, prediction=i % 2)]
    measured = [
        *sample(1, label=1, prediction=0),
        *sample(2, label=0, prediction=0),
        *sample(3, label=1, outcome="failed"),
        *sample(4, label=1, prediction=0),
        *sample(7),
    ]
    comparison = both(tmp_path, simulated, measured)
    answers = only(comparison).answers
    assert (answers.samples, answers.predicted, answers.alike, answers.other_labels) == (4, 3, 2, 1)
    assert (answers.simulated_accuracy, answers.measured_accuracy) == (1.0, 0.25)
    assert "png: true classes differ in 1 of 4 samples: these are not the same data" in comparison.notes
    unlabelled = [e for i in range(5) for e in sample(i, label=None)]
    answers = only(both(tmp_path, simulated, unlabelled)).answers
    assert (answers.simulated_accuracy, answers.measured_accuracy, answers.predicted) == (None, None, 5)


def test_what_is_in_one_run_only_is_named(tmp_path: Path) -> None:
    simulated = [*sample(0, method="png"), *sample(0, method="webp"), *sample(0, method="jpeg")]
    measured = [*sample(0, method="jpeg"), *sample(0, method="png"), *sample(0, method="local")]
    comparison = both(tmp_path, simulated, measured)
    assert [one.method for one in comparison.methods] == ["png", "jpeg"]
    assert "in the simulated run only: webp" in comparison.notes
    assert "in the measured run only: local" in comparison.notes


def test_scenarios_may_differ_and_the_notes_say_in_what(tmp_path: Path) -> None:
    other = {
        "training": {"epochs": 3},
        **SCENARIO,
        "data": {"name": "mnist"},
        "fleet": [{"count": 3}],
        "name": "b",
        "engine": "processes",
    }
    comparison = both(tmp_path, sample(0), sample(0), scenario=other, seed=8, inputs={"data": "ab"})
    assert comparison.notes == (
        "latencies of both runs are measured: nothing is predicted and then measured here",
        "seed is 8 in the simulated run and 7 in the measured one",
        'data.name is "mnist" in the simulated run and "digits" in the measured one',
        "fleet.0.count is 3 in the simulated run and 2 in the measured one",
        "training.epochs is 3 in the simulated run and not there in the measured one",
    )
    folder = write_run(tmp_path / "another", sample(0), inputs={"data": "cd"}, scenario=SCENARIO | {"x": 1})
    notes = compare(tmp_path / "simulated", folder).notes
    assert "data is not the same in both runs: its SHA-256 differs" in notes
    assert "x is not there in the simulated run and 1 in the measured one" in notes
    many = write_run(tmp_path / "many", sample(0), scenario=SCENARIO | {f"k{i}": i for i in range(11)})
    assert "3 more keys of the scenarios differ" in compare(tmp_path / "measured", many).notes


@pytest.mark.parametrize(
    ("provenances", "note"),
    [
        (("modelled", "measured"), None),
        (("modelled", "modelled"), "latencies of both runs are modelled: nothing is"),
        (("measured", "modelled"), "are they the wrong way round?"),
    ],
)
def test_runs_of_other_kinds_are_compared_with_a_remark(
    tmp_path: Path, provenances: tuple[str, str], note: str | None
) -> None:
    runs = [sample(0, provenance=one) for one in provenances]
    notes = both(tmp_path, *runs).notes
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_stages_that_were_waited_out_are_named_once(tmp_path: Path) -> None:
    methods = ("png", "webp")
    simulated = [e for method in methods for e in sample(0, method=method, provenance="modelled")]
    measured = [e for method in methods for e in sample(0, method=method, waited=("head", "encode"))]
    (note,) = both(tmp_path, simulated, measured).notes
    assert note.startswith("all methods: head, encode lasted what a model says in the measured run too")


def test_rounds_of_a_federation_are_left_out(tmp_path: Path) -> None:
    round_ = Event("r", "fedavg", "server", "total", 1e9, 1.0, "measured", round=1)
    (one,) = both(tmp_path, [*sample(0), round_], [*sample(0), round_]).methods
    assert one.method == "png"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere",
            "nowhere: is no run folder: no such folder; expected what fedsim run leaves, or of a sweep",
        ),
        ("empty", "empty: is no run folder: no ledger.parquet and no summary.json in it"),
        ("federated", "federated: no sample in its ledger, so there is no latency to compare"),
        ("others", r"no method is in both runs: \S+good has png, \S+others has webp, local"),
        ("failed", "no latency is in both runs: of png no sample ended well in one of them"),
    ],
)
def test_what_cannot_be_compared_is_one_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    good = write_run(tmp_path / "good", sample(0))
    write_run(
        tmp_path / "federated", [Event("r", "fedavg", "server", "merge", 1e9, 1.0, "measured", round=1)]
    )
    write_run(tmp_path / "others", [*sample(0, method="webp"), *sample(0, method="local")])
    write_run(tmp_path / "failed", sample(0, outcome="failed"))
    with pytest.raises(ComparisonError, match=message):
        compare(good, tmp_path / name)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", sample(0))
    bad = write_run(tmp_path / "bad", sample(0))
    (bad / "ledger.parquet").write_bytes(b"PAR0")
    with pytest.raises(LedgerError, match=r"bad.ledger\.parquet"):
        compare(good, bad)
    (bad / "summary.json").write_text("{}")
    with pytest.raises(SummaryError, match=r"bad.summary\.json"):
        compare(good, bad)
