from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from edge.meter import STAGES
from fedsim.errors import SimulationError
from fedsim.hardware.battery import Battery
from fedsim.hardware.power import DevicePower
from fedsim.hardware.radio import RadioModel
from fedsim.measure.ledger import SCHEMA
from fedsim.measure.summary import ModelCost, summarise
from fedsim.simulator.energy import energy_of
from fedsim.simulator.fleet import Cell, Device, Round, Server, Work, simulate
from fedsim.simulator.records import Samples, device_records, records

RADIO = RadioModel(0.01, 0.26, 1.2, 1.3, 4e-7, 5e-8, ((1.0, 1.0),))


@pytest.fixture
def outcome():
    work = Work(
        np.array([0.0, 5.0]), compute_s=0.5, up_bits=1e6, down_bits=1e4, up_delay_s=0.02, down_delay_s=0.03
    )
    devices = [Device(work, 0, 1, radio=RADIO, power=DevicePower(2.0, 5.0)) for _ in range(2)]
    rounds = [Round(np.array([0]), *(np.array([value]) for value in (1e4, 0.1, 1e4, 0.0)))]
    return simulate([Cell(2e6), Cell(2e6)], Server(fixed_s=0.1, each_s=0.05), devices, rounds, 100.0)


def samples(**more):
    return Samples(
        numbers=np.array([3, 5, 4, 6]),
        head_s=np.full(4, 0.4),
        decode_share=np.full(4, 1 / 3),
        labels=np.array([1, 2, 1, 2]),
        predictions=np.array([1, 2, 0, 2]),
        sent={"payload_bytes": np.array([10, 20, 30, 40]), "frame_bytes": np.array([20, 30, 40, 50])},
        **more,
    )


def table_of(outcome, failed=None, **more):
    return records(
        outcome, samples(failed=failed), run="run", method="one", clients=["a", "b"], rate=0.3, **more
    )


def stage(table, name):
    return table.filter(pc.equal(table["stage"], name)).to_pylist()


def test_stages_follow_each_other_and_add_up(outcome):
    table = table_of(outcome)
    assert table.schema.equals(SCHEMA)
    assert set(table["stage"].to_pylist()) == set(STAGES)
    for place, number in enumerate((3, 5, 4, 6)):
        mine = {row["stage"]: row for row in table.to_pylist() if row["sample"] == number}
        parts = sum(row["duration_s"] for name, row in mine.items() if name != "total")
        assert parts == pytest.approx(mine["total"]["duration_s"])
        assert mine["head"]["start_s"] == outcome.at("started")[place]
        assert mine["encode"]["duration_s"] == pytest.approx(0.1)
        assert mine["decode"]["duration_s"] == pytest.approx(0.05)
        assert mine["tail"]["duration_s"] == pytest.approx(0.1)
        assert mine["total"]["due_s"] == outcome.at("due")[place]
        assert mine["send"]["payload_bytes"] == (place + 1) * 10
        assert mine["send"]["wire_bytes"] is None
    assert {row["provenance"] for row in table.to_pylist()} == {"modelled"}
    assert [row["client"] for row in stage(table, "total")] == ["a", "a", "b", "b"]


def test_the_summary_takes_it(outcome):
    cost = ModelCost("factorized", True, 1, 1, 1, 1)
    (row,) = summarise(table_of(outcome), {}, 0, {"one": cost}, ["one"], 1.0).rows
    assert row.accuracy == 0.75
    assert row.payload_bytes.mean == 25
    assert row.provenance.latency == row.provenance.bytes.payload == "modelled"
    assert list(row.latency_ms) == list(STAGES)


def test_joules_are_those_of_the_devices(outcome):
    joules = [energy_of(outcome, number) for number in range(2)]
    table = table_of(outcome, joules=joules)
    assert [row["joules"] for row in stage(table, "head")] == pytest.approx([3.0 * 0.4] * 4)
    assert [row["joules"] for row in stage(table, "encode")] == pytest.approx([3.0 * 0.1] * 4)
    sent = [row["joules"] for row in stage(table, "send")]
    assert sent[2:] == pytest.approx(joules[1].bits_j)
    assert [row["joules"] for row in stage(table, "total")] == pytest.approx([1.5 + one for one in sent])
    assert all(row["joules"] is None for row in stage(table, "tail"))
    assert all(row["joules"] is None for row in table_of(outcome).to_pylist())


def test_all_energy_is_in_the_ledger(outcome):
    joules = [energy_of(outcome, 0), energy_of(outcome, 1, outcome.ended_s)]
    kept = {"run": "run", "method": "one", "clients": ["a", "b"]}
    devices, table = device_records(outcome, joules, **kept), table_of(outcome, joules=joules)
    assert devices.schema.equals(SCHEMA)
    assert {row["stage"] for row in devices.to_pylist()} == {"base", "promotion", "radio-tail", "radio-idle"}
    for client, used in zip("ab", joules, strict=True):
        rows = [*devices.to_pylist(), *stage(table, "total")]
        of_rounds = used.compute_j[2:].sum() + used.bits_j[2:].sum()
        found = sum(row["joules"] for row in rows if row["client"] == client)
        assert found + of_rounds == pytest.approx(used.total_j)


def test_energy_that_is_not_known_is_left_out(outcome):
    joules = [None, energy_of(outcome, 1)]
    totals = stage(table_of(outcome, joules=joules), "total")
    assert [row["joules"] is None for row in totals] == [True, True, False, False]
    devices = device_records(outcome, joules, run="run", method="one", clients=["a", "b"])
    assert set(devices["client"].to_pylist()) == {"b"}


def test_of_a_device_without_powers_or_radio_the_rest_is_told(outcome):
    first, used = energy_of(outcome, 0), energy_of(outcome, 1)
    for unknown, known in (("powered", "send"), ("heard", "head")):
        joules = [first, replace(used, **{unknown: False})]
        table = table_of(outcome, joules=joules)
        for name in ("head", "send", "total"):
            missing = [row["joules"] is None for row in stage(table, name)]
            assert missing == [False, False, name != known, name != known]
        told = device_records(outcome, joules, run="run", method="one", clients=["a", "b"]).to_pylist()
        of_device = {"base"} if unknown == "powered" else {"promotion", "radio-tail", "radio-idle"}
        assert {row["stage"] for row in told if row["joules"] is None} == of_device


def test_a_battery_that_is_empty_is_told():
    device = Device(
        Work(np.arange(10.0), compute_s=0.5), 0, 0, power=DevicePower(1.0, 2.0), battery=Battery(4.0)
    )
    found = simulate([Cell()], Server(), [device])
    (row,) = device_records(found, [None], run="run", method="one", clients=["a"]).to_pylist()
    assert (row["stage"], row["start_s"], row["joules"]) == ("battery-empty", found.empty_s[0], None)
    assert found.lives_until(0, 100.0) == pytest.approx(max(row["start_s"], np.nanmax(found.at("computed"))))


def test_what_ran_on_the_device_is_local(outcome):
    table = table_of(outcome, local=True)
    assert set(table["stage"].to_pylist()) == {"head", "total"}
    assert {row["outcome"] for row in stage(table, "total")} == {"local"}


def test_what_failed_before_has_failed_again(outcome):
    table = table_of(outcome, failed=np.array(["", "every packet was lost", "", ""], object))
    totals = stage(table, "total")
    assert [row["outcome"] for row in totals] == ["answered", "failed", "answered", "answered"]
    assert [row["detail"] for row in totals] == [None, "every packet was lost", None, None]


def test_what_is_late_has_failed():
    work = Work(np.array([0.0, 5.0]), compute_s=0.5, up_delay_s=np.array([0.1, 9.0]))
    found = simulate([Cell()], Server(), [Device(work, 0, 0, deadline_s=2.0) for _ in range(2)])
    table = table_of(found)
    totals, late = stage(table, "total"), [False, True, False, True]
    assert [row["outcome"] for row in totals] == ["failed" if one else "answered" for one in late]
    assert [row["prediction"] is None for row in totals] == late
    assert [row["detail"] for row in totals] == ["no answer within 2 s" if one else None for one in late]
    assert [row["duration_s"] for row in totals] == pytest.approx([0.6, 2.5] * 2)
    assert [row["duration_s"] for row in stage(table, "send")] == pytest.approx([0.1, 2.0] * 2)
    assert len(stage(table, "tail")) == 2


def test_of_what_sends_nothing_there_is_no_way():
    work = Work(np.array([0.0, 5.0]), compute_s=0.5, sent=np.array([True, False]))
    found = simulate([Cell()], Server(), [Device(work, 0, 0) for _ in range(2)])
    lost = np.array(["", "every packet was lost"] * 2, object)
    table = table_of(found, failed=lost)
    assert [row["sample"] for row in stage(table, "send")] == [3, 4]
    assert [row["duration_s"] for row in stage(table, "total")][1::2] == pytest.approx([0.5, 0.5])


def test_what_was_never_begun_is_left_out():
    device = Device(Work(np.array([0.0, 5.0])), 0, 0, until_s=1.0)
    found = simulate([Cell()], Server(), [device])
    nothing = Samples(np.array([0, 1]), np.zeros(2), np.zeros(2))
    table = records(found, nothing, run="run", method="one", clients=["a"])
    assert table["sample"].to_pylist() == [0] * len(STAGES)


def test_what_does_not_fit_is_said(outcome):
    with pytest.raises(SimulationError, match="numbers are 1, and there are 4 samples"):
        records(
            outcome,
            Samples(np.zeros(1, int), np.zeros(4), np.zeros(4)),
            run="",
            method="",
            clients=["a", "b"],
        )
    with pytest.raises(SimulationError, match="names are 1, and there are 2 devices"):
        records(outcome, samples(), run="run", method="one", clients=["a"])
