"""Figures of a federation, by hand."""

import dataclasses

import pytest

from fedsim.federated.evaluation import Result
from fedsim.federated.rounds import Rejection, RoundRecord
from fedsim.measure.federation.summary import MethodRun, accuracies, summarise_federation
from fedsim.measure.federation.table import print_federation

from .federations import CLIENTS, console_of, federation, message, site, step


def test_accuracies_are_pooled_and_averaged_apart() -> None:
    results = {
        2: [Result("head", "all", "personal", 9, 10), Result("head", "own", "personal", 0, 0)],
        0: [Result("head", "all", "personal", 30, 90), Result("head", "own", "personal", 1, 4)],
    }
    everything, own = accuracies(results)
    assert (everything.right, everything.total, everything.clients) == (39, 100, 2)
    assert everything.accuracy == 0.39
    assert everything.client_mean == pytest.approx((0.9 + 1 / 3) / 2)
    assert everything.client_deviation == pytest.approx(abs(0.9 - 1 / 3) / 2**0.5)
    assert (own.accuracy, own.client_mean, own.client_deviation, own.clients) == (0.25, 0.25, None, 1)


def test_of_no_samples_there_is_no_accuracy() -> None:
    (nothing,) = accuracies({0: [Result("head", "own", "global", 0, 0)]})
    assert (nothing.accuracy, nothing.client_mean, nothing.client_deviation) == (None, None, None)
    assert (nothing.total, nothing.clients) == (0, 0)
    assert accuracies({}) == []


def test_bytes_are_told_apart_by_what_they_are_for() -> None:
    events = [
        message("hello-down", 0, payload=0, frame=3),
        message("hello-up", 0, payload=0, frame=4),
        message("setup", 1, payload=1000, frame=1010),
        message("masking-up", 1, payload=32, frame=40),
        message("down", 1, payload=10, frame=15, bits=70.5),
        message("up", 1, payload=20, frame=25, bits=150),
        message("up", 1, client=1, payload=30, frame=35, bits=230),
        message("up", 2, payload=40, frame=45, bits=310),
        message("evaluate-down", 2, payload=50, frame=55),
        message("evaluate-up", 2, payload=0, frame=60),
        step(1, 0.25),
        step(1, 0.5),
    ]
    (row,) = federation(events).rows
    traffic = row.bytes
    assert (traffic.hello.messages, traffic.hello.frame_bytes) == (2, 7)
    assert (traffic.setup.payload_bytes, traffic.masking.payload_bytes) == (1000, 32)
    assert (traffic.down.payload_bytes, traffic.down.ideal_bits) == (10, 70.5)
    assert (traffic.up.messages, traffic.up.payload_bytes, traffic.up.frame_bytes) == (3, 90, 105)
    assert (traffic.evaluation_down.payload_bytes, traffic.evaluation_up.frame_bytes) == (50, 60)
    first, second = row.rounds
    assert (first.bytes.up.payload_bytes, second.bytes.up.payload_bytes) == (50, 40)
    assert first.step_s == 0.75
    assert second.step_s is None
    assert first.bytes.hello.messages == 0


def test_wire_bytes_are_known_only_where_all_are() -> None:
    events = [
        message("up", 1, payload=20, frame=25, wire=80),
        message("up", 2, payload=20, frame=25, wire=90),
    ]
    whole = federation(events)
    assert whole.rows[0].bytes.up.wire_bytes == 170
    assert (whole.provenance.wire, whole.provenance.detail) == ("measured", None)
    part = federation([*events, message("up", 2, payload=20, frame=25)])
    assert part.rows[0].bytes.up.wire_bytes is None
    assert part.provenance.wire == "unavailable"
    untold = dataclasses.replace(message("up", 2, payload=20, frame=25), detail="the socket is not ours")
    failed = dataclasses.replace(untold, outcome="failed", detail="out of luck")
    assert federation([failed, untold]).provenance.detail == "the socket is not ours"


def test_what_nobody_counted_is_no_zero() -> None:
    found = federation([])
    assert found.rows[0].bytes is None
    assert {found.provenance.ideal, found.provenance.payload, found.provenance.frame} == {"unavailable"}
    assert "nobody counted" in found.provenance.detail
    console, said = console_of(140)
    print_federation(found, "small", console)
    rows = [line for line in said().splitlines() if line.startswith("m ") and "75.0" not in line]
    cells = [cell for row in rows for cell in row.split()[1:]]
    assert cells == ["unavailable"] * 16  # four kinds of messages at four levels


def test_rejections_late_replies_and_void_rounds_are_told() -> None:
    refused = [Rejection(1, partition, "a loss that is not finite") for partition in (0, 1)]
    records = [
        RoundRecord(1, (0, 1, 2), merged=(2,), rejected=(*refused, Rejection(1, 2, "evaluation: gone"))),
        RoundRecord(2, (0, 1, 2), late={1: 0.5}, void="too few are left"),
    ]
    (row,) = summarise_federation(site(), [MethodRun("m", "fedproto", records)], [], 2).rows
    assert row.remarks == [
        "m: 3 replies were rejected: a loss that is not finite (2); evaluation: gone (1)",
        "m: 1 replies missed the deadline",
        "m: 1 rounds came to nothing; round 2: too few are left",
    ]
    assert (row.rounds[0].rejected, row.rounds[1].late, row.rounds[1].void) == (3, 1, "too few are left")


def test_who_holds_what() -> None:
    found = federation([]).clients
    assert [one.client for one in found] == [f"device-{n}" for n in range(CLIENTS)]
    assert [(one.train, one.test, one.classes) for one in found] == [(4, 2, 2), (4, 2, 2), (4, 2, 2)]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_tables_are_whole_at_any_width(width: int) -> None:
    console, said = console_of(width)
    events = [message("up", 1, payload=2_000_000, frame=2_000_100), message("setup", 1, payload=5, frame=9)]
    print_federation(federation(events), "small", console)
    text = said()
    for word in ("prototypes", "head", "own classes", "all classes", "global test", "personal test"):
        assert word in text
    assert "75.0 ± 35.4" in text
    assert "1.00 M" in text  # two millions in two rounds
    assert "unavailable" in text
    assert "…" not in text


def test_a_bound_on_what_was_given_away_is_printed() -> None:
    found = federation([])
    private = found.rows[0].model_copy(update={"privacy": _loss(3.25)})
    without = found.rows[0].model_copy(update={"privacy": _loss(None)})
    console, said = console_of(140)
    print_federation(found.model_copy(update={"rows": [private, without]}), "small", console)
    assert "m: epsilon 3.25, at delta 1e-05 and the level of a sample, of 4 releases." in said()
    assert "m: epsilon has no bound, since there is no noise" in said()


def _loss(epsilon: float | None):
    from fedsim.measure.federation.schema import Privacy

    return Privacy(epsilon=epsilon, delta=1e-5, level="sample", releases=4)


def test_records_of_all_kinds_have_a_place_in_the_summary() -> None:
    told = {"number", "cohort", "merged", "lost", "rejected", "results", "late", "void"}
    assert {one.name for one in dataclasses.fields(RoundRecord)} == told
