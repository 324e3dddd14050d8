"""What the meters of the machine said, by hand."""

from typing import get_args

import pytest

from edge.energy import What
from edge.meter import Event
from fedsim.measure.ledger import check, to_table
from fedsim.measure.machine import MACHINE_STAGES
from fedsim.measure.schema import Row, Summary

from .runs import CODEC, LEARNED, machine, metered, sample, summary_of

SAID = [
    machine("png", "package-0", 30.0, detail="RAPL counter 0"),
    machine("png", "gpu-0", None, stage="machine-gpu", detail="a driver's fault"),
]


def three() -> list[Event]:
    """Two samples that ended well, and one that failed."""
    events = [event for number in range(2) for event in sample("png", number, payload=9, stages=True)]
    return [*events, *sample("png", 2, payload=9, stages=True, outcome="failed")]


def row_of(events: list[Event]) -> Row:
    (row,) = summary_of(events, {"png": CODEC}).rows
    return row


def test_every_figure_by_hand() -> None:
    assert [reading.model_dump() for reading in row_of([*three(), *SAID]).machine] == [
        {
            "meter": "package-0",
            "what": "package",
            "sample_j": 15.0,
            "watts": 7.5,
            "seconds": 4.0,
            "provenance": "measured",
            "detail": "RAPL counter 0",
        },
        {
            "meter": "gpu-0",
            "what": "gpu",
            "sample_j": None,
            "watts": None,
            "seconds": 4.0,
            "provenance": "unavailable",
            "detail": "a driver's fault",
        },
    ]


def test_a_machine_without_a_meter_says_why() -> None:
    (reading,) = row_of([*three(), machine("png", "none", None, stage="machine", detail="virtual")]).machine
    assert (reading.meter, reading.what, reading.provenance, reading.detail) == (
        "none",
        None,
        "unavailable",
        "virtual",
    )


def test_nothing_answered_has_a_power_and_no_energy_of_a_sample() -> None:
    (reading, _) = row_of([*sample("png", 0, payload=9, outcome="failed", prediction=None), *SAID]).machine
    assert (reading.sample_j, reading.watts, reading.provenance) == (None, 7.5, "measured")


@pytest.mark.parametrize("devices", [{}, {"base": 60.0, "radio-tail": 5.0}])
def test_no_other_figure_changes(devices: dict[str, float]) -> None:
    for events in (three(), metered(three(), {"head": 0.2, "encode": 0.1, "send": 0.4}, devices)):
        with_meters = row_of([*SAID, *events])
        assert with_meters.machine != []
        assert with_meters.model_copy(update={"machine": []}) == row_of(events)
        check(to_table([*SAID, *events]), {"png": range(3)})


def test_each_method_has_its_own() -> None:
    events = [*three(), *SAID, *sample("f", 0, payload=9, rate=0.1), machine("f", "package-0", 8.0, rate=0.1)]
    rows = summary_of(events, {"f": LEARNED, "png": CODEC}).rows
    assert [[reading.sample_j for reading in row.machine] for row in rows] == [[8.0], [15.0, None]]


def test_there_is_a_stage_for_whatever_a_meter_measures() -> None:
    assert list(MACHINE_STAGES.values()) == [None, *get_args(What)]


def test_a_summary_of_before_there_were_meters_is_read() -> None:
    document = summary_of(three(), {"png": CODEC}).model_dump(mode="json", by_alias=True)
    del document["rows"][0]["machine"]
    (row,) = Summary.model_validate(document).rows
    assert row.machine == []
