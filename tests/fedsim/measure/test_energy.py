"""The energy of a row, by hand."""

from dataclasses import replace

import pytest

from edge.meter import Event
from fedsim.measure.schema import Energy, Row, Summary

from .runs import CODEC, LOCAL, metered, sample, summary_of

SAMPLE = {"head": 0.2, "encode": 0.1, "send": 0.4}
DEVICE = {"promotion": 3.0, "radio-tail": 5.0, "radio-idle": 2.0, "base": 60.0}


def row_of(events: list[Event]) -> Row:
    (row,) = summary_of(events, {"png": CODEC}).rows
    return row


def energy_of(events: list[Event]) -> Energy:
    energy = row_of(events).energy
    assert energy is not None
    return energy


def four(**changes: object) -> list[Event]:
    """Three samples that were answered, two of them rightly, and one that failed; of devices a and b."""
    events = [e for n in range(3) for e in sample("png", n, payload=9, stages=True, prediction=int(n > 0))]
    events += sample("png", 3, payload=9, stages=True, outcome="failed", client="b")
    return [replace(event, **changes) for event in events]


def test_every_figure_by_hand() -> None:
    energy = energy_of(metered(four(provenance="modelled"), SAMPLE, DEVICE, "ab"))
    # Four samples cost something, and three were answered; each figure of a device counts twice.
    assert energy.model_dump() == {
        "head_j": pytest.approx(4 * 0.2 / 3),
        "encode_j": pytest.approx(4 * 0.1 / 3),
        "send_j": pytest.approx(4 * 0.4 / 3),
        "promotion_j": pytest.approx(2.0),
        "tail_j": pytest.approx(10 / 3),
        "idle_j": pytest.approx(4 / 3),
        "base_j": pytest.approx(40.0),
        "incremental_j": pytest.approx((4 * 0.7 + 16) / 3),
        "total_j": pytest.approx((4 * 0.7 + 140) / 3),
        "per_correct_j": pytest.approx((4 * 0.7 + 16) / 2),
        "sample_j": {"p50": pytest.approx(0.7), "p95": pytest.approx(0.7)},
        "provenance": "modelled",
    }


def test_what_samples_cost_is_spread() -> None:
    events = metered(four(), SAMPLE, DEVICE, "ab")
    events = [
        replace(event, joules=1.0 + (event.sample or 0)) if event.stage == "total" else event
        for event in events
    ]
    spread = energy_of(events).sample_j
    assert spread is not None
    assert (spread.p50, spread.p95) == pytest.approx((2.0, 2.9))  # of 1, 2 and 3


def test_a_ledger_without_joules_has_no_energy() -> None:
    row = row_of(four())
    assert (row.energy, row.devices_empty) == (None, None)


def test_nothing_answered_has_no_energy_of_a_sample() -> None:
    failed = sample("png", 0, payload=9, outcome="failed", prediction=None)
    assert row_of(metered(failed, SAMPLE, DEVICE)).energy is None


def test_a_network_on_the_device_has_no_radio() -> None:
    events = metered(sample("local", 0, outcome="local"), SAMPLE, {"base": 60.0})
    (row,) = summary_of(events, {"local": LOCAL}).rows
    energy = row.energy
    assert energy is not None
    assert (energy.send_j, energy.promotion_j, energy.tail_j, energy.idle_j) == (None,) * 4
    assert (energy.head_j, energy.incremental_j, energy.total_j) == (0.2, 0.2, 60.2)


def test_one_unknown_amount_makes_its_cause_and_the_sums_unknown() -> None:
    events = metered(four(), SAMPLE, DEVICE, "ab")
    first = next(event for event in events if event.stage == "send")
    energy = energy_of([replace(event, joules=None) if event is first else event for event in events])
    assert (energy.send_j, energy.incremental_j, energy.total_j, energy.per_correct_j) == (None,) * 4
    assert energy.head_j is not None
    assert energy.base_j is not None


def test_a_device_of_which_nothing_is_known_makes_what_devices_spend_unknown() -> None:
    energy = energy_of(metered(four(), SAMPLE, DEVICE, "a"))  # and b had a sample, too
    assert (energy.promotion_j, energy.tail_j, energy.idle_j, energy.base_j) == (None,) * 4
    assert (energy.incremental_j, energy.total_j) == (None, None)
    assert energy.head_j is not None


def test_without_labels_nothing_is_said_of_correct_answers() -> None:
    assert energy_of(metered(four(label=None), SAMPLE, DEVICE, "ab")).per_correct_j is None


def test_a_modelled_amount_among_measured_ones_makes_them_modelled() -> None:
    assert energy_of(metered(four(), SAMPLE, {})).provenance == "measured"
    assert energy_of(metered(four(), SAMPLE, DEVICE, "ab")).provenance == "modelled"


def test_empty_batteries_are_counted_by_device() -> None:
    events = metered(four(), SAMPLE, DEVICE, "ab")
    assert row_of(events).devices_empty == 0
    empty = [Event("r", "png", client, "battery-empty", 1e9, 0.0, "modelled") for client in "bbc"]
    assert row_of([*events, *empty]).devices_empty == 2
    assert row_of([*four(), *empty]).devices_empty == 2


def test_a_summary_of_before_there_was_energy_is_read() -> None:
    document = summary_of(four(), {"png": CODEC}).model_dump(mode="json", by_alias=True)
    for key in ("energy", "devices_empty", "response_ms", "answered_per_s"):
        del document["rows"][0][key]
    (row,) = Summary.model_validate(document).rows
    assert (row.energy, row.devices_empty, row.response_ms, row.answered_per_s) == (None,) * 4
