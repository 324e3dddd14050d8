import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from edge.meter import STAGES, Event
from fedsim.measure.schema import Summary
from fedsim.measure.table import (
    cost_tables,
    energy_tables,
    latency_tables,
    machine_tables,
    print_results,
)

from .runs import (
    CODEC,
    LEARNED,
    LOCAL,
    camera_fleet,
    machine,
    metered,
    quickstart,
    sample,
    stream,
    summary_of,
    trade_off,
)

#: What stands where a figure does not apply: an en dash.
DASH = "\u2013"
WIDE = 500


def cost_table(summary: Summary) -> Table:
    (table,) = cost_tables(summary, WIDE)
    return table


def latency_table(summary: Summary) -> Table:
    (table,) = latency_tables(summary, WIDE)
    return table


def printed(summary: Summary, width: int) -> list[str]:
    """The lines of all tables, as they leave for a terminal of that width."""
    file = io.StringIO()
    print_results(summary, Console(width=width, file=file))
    return file.getvalue().splitlines()


def cells(table: Table, method: str) -> list[str]:
    """The texts of a method's row, by column."""
    columns = [list(column.cells) for column in table.columns]
    at = columns[0].index(method)
    return [str(column[at]) for column in columns]


def headers(table: Table) -> list[str]:
    return [str(column.header) for column in table.columns]


def test_costs_of_a_row() -> None:
    events = []
    for number, payload in enumerate([10, 20, 30, 40, 300]):
        events += sample("f", number, payload=payload, wire=payload + 100, rate=0.08)
    table = cost_table(summary_of(events, {"f": LEARNED}))
    assert cells(table, "f") == [
        "f",
        "0.08",
        f"100.0 (56.6{DASH}100.0)",
        "80 / 248 / 300",
        "91 / 259 / 311",
        "180 / 348 / 400",
        "90.0 k",
        "300",
    ]


def test_what_does_not_apply_and_what_could_not_be_measured_look_different() -> None:
    events = [*sample("local", 0, outcome="local"), *sample("png", 0, payload=9, label=None)]
    table = cost_table(summary_of(events, {"local": LOCAL, "png": CODEC}))
    assert cells(table, "local")[1:6] == [DASH, f"100.0 (20.7{DASH}100.0)", DASH, DASH, DASH]
    assert cells(table, "local")[6:] == ["1.23 M", "5.00 k"]
    assert cells(table, "png")[2] == "unavailable"
    assert cells(table, "png")[5] == "unavailable"


def test_failures_and_fallbacks_get_a_column_only_where_there_are_some() -> None:
    well = sample("png", 0, payload=9)
    fails = [*well, *sample("png", 1, outcome="failed"), *sample("png", 2, outcome="local")]
    local = sample("local", 0, outcome="local")
    costs = {"png": CODEC, "local": LOCAL}
    assert "fallback\n/ failed" not in headers(cost_table(summary_of([*well, *local], costs)))
    table = cost_table(summary_of([*fails, *local], costs))
    assert headers(table)[-1] == "fallback\n/ failed"
    assert (cells(table, "png")[-1], cells(table, "local")[-1]) == ("1 / 1", DASH)


def test_latency_of_a_row() -> None:
    events = [e for n, ms in enumerate([1, 2, 3, 4, 50]) for e in sample("f", n, payload=9, ms=ms)]
    table = latency_table(summary_of(events, {"f": LEARNED}))
    assert headers(table) == ["method", "head", "encode", "send", "queue", "decode", "tail", "total"]
    # p95 lies at position 3.8: 4 + 0.8 * 46 = 40.8 ms in the head.
    assert cells(table, "f") == ["f", "3.00 / 40.8", DASH, "6.00 / 81.6", DASH, DASH, DASH, "12.0 / 163"]


def test_accuracy_is_shown_with_the_interval_of_the_summary() -> None:
    events = [e for n in range(599) for e in sample("png", n, payload=9, prediction=int(n >= 6))]
    summary = summary_of(events, {"png": CODEC})
    assert summary.rows[0].accuracy_interval == pytest.approx((0.9783, 0.9954), abs=1e-4)
    assert cells(cost_table(summary), "png")[2] == f"99.0 (97.8{DASH}99.5)"


def test_bytes_on_the_wire_are_a_mean_where_samples_cannot_be_told_apart() -> None:
    events = [*sample("png", 0, payload=9), *sample("png", 1, payload=9), stream("png", 307)]
    assert cells(cost_table(summary_of(events, {"png": CODEC})), "png")[5] == "~ 154"


def test_energy_of_a_row() -> None:
    (table,) = energy_tables(camera_fleet(), WIDE)
    assert headers(table) == [
        "method",
        "head",
        "encode",
        "radio",
        "sum",
        "per\ncorrect",
        "at rest",
        "provenance",
    ]
    assert cells(table, "local") == ["local", "900", DASH, DASH, "900", "900", "30120", "modelled"]
    # 1.6 + 9.4 J of each of two devices' radios for 20 answered samples, and 0.5 mJ for the bits.
    assert cells(table, "factorized")[1:5] == ["160", "4", "2200", "2364"]
    assert "energy on the device, mJ a sample" in str(table.title)


def test_energy_has_a_table_only_where_it_is_known() -> None:
    assert energy_tables(trade_off(), WIDE) == []
    assert not any("energy" in line for line in printed(trade_off(), 120))
    assert any("energy on the device" in line for line in printed(camera_fleet(), 120))
    known = metered(sample("f", 0, payload=9), {"head": 4e-6}, {})
    events = [*known, *sample("png", 0, payload=9)]
    (table,) = energy_tables(summary_of(events, {"f": LEARNED, "png": CODEC}), WIDE)
    # What the radio took is not known, and so neither is the sum.
    assert cells(table, "f") == ["f", "0.004", DASH, DASH, DASH, DASH, DASH, "measured"]
    assert cells(table, "png") == ["png", *[DASH] * 7]


def test_empty_batteries_get_a_column_only_where_there_are_some() -> None:
    events = metered(sample("f", 0, payload=9), {"head": 1.0, "send": 1.0}, {})
    empty = Event("r", "f", "a", "battery-empty", 1e9, 0.0, "modelled")
    (table,) = energy_tables(summary_of(events, {"f": LEARNED}), WIDE)
    assert headers(table)[-1] == "provenance"
    (table,) = energy_tables(summary_of([*events, empty], {"f": LEARNED}), WIDE)
    assert (headers(table)[-1], cells(table, "f")[-1]) == ("devices\nempty", "1")


def test_the_machine_has_a_column_for_each_meter_that_gave_a_reading() -> None:
    events = [
        *(event for number in range(4) for event in sample("f", number, payload=9)),
        machine("f", "package-0", 50.0),
        machine("f", "package-1", None),
        machine("f", "gpu-0", 0.02, stage="machine-gpu"),
        *sample("png", 0, payload=9, outcome="failed"),
        machine("png", "package-0", 6.0),
        machine("png", "package-1", None),
        machine("png", "gpu-0", None, stage="machine-gpu"),
        *sample("local", 0, outcome="local"),
    ]
    summary = summary_of(events, {"f": LEARNED, "png": CODEC, "local": LOCAL})
    (table,) = machine_tables(summary, WIDE)
    assert headers(table) == ["method", "package-0", "gpu-0"]
    assert cells(table, "f") == ["f", "12500 / 12.5", "5 / 0.0"]
    assert cells(table, "png") == ["png", f"{DASH} / 1.5", "unavailable"]
    assert cells(table, "local") == ["local", DASH, DASH]
    assert "energy of this machine, mJ a sample / mean W, measured" in str(table.title)
    assert energy_tables(summary, WIDE) == []
    assert sum("energy of this machine" in line for line in printed(summary, 120)) == 1


def test_a_machine_without_a_reading_has_no_table() -> None:
    events = [*sample("f", 0, payload=9), machine("f", "none", None, stage="machine", detail="no RAPL zone")]
    summary = summary_of(events, {"f": LEARNED})
    assert [reading.detail for reading in summary.rows[0].machine] == ["no RAPL zone"]
    assert machine_tables(summary, WIDE) == []
    assert not any("machine" in line or "RAPL" in line for line in printed(summary, 120))


def test_what_was_due_has_a_response() -> None:
    events = [replace(event, due_s=event.start_s - 0.1) for event in sample("f", 0, payload=9)]
    table = latency_table(summary_of(events, {"f": LEARNED}))
    assert headers(table)[-1] == "response"
    assert cells(table, "f")[-2:] == ["4.00 / 4.00", "104 / 104"]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return quickstart()


@pytest.mark.parametrize("width", [30, 80, 100, 120, 140])
def test_nothing_is_lost_at_any_width(summary: Summary, width: int) -> None:
    lines = printed(summary, width)
    assert not any("…" in line for line in lines)
    if width >= 80:
        assert max(map(len, lines)) <= width
    tables = [*cost_tables(summary, width), *latency_tables(summary, width)]
    methods = [row.method for row in summary.rows]
    first = [line.partition(" ")[0] for line in lines]
    assert [word for word in first if word in methods] == methods * len(tables)
    text = " ".join(" ".join(lines).split())
    for table in (*cost_tables(summary, WIDE), *latency_tables(summary, WIDE)):
        for column in table.columns:
            for part in str(column.header).split("\n"):
                assert part in text
            assert all(str(cell) in text for cell in column.cells)


def test_tables_are_as_few_as_fit(summary: Summary) -> None:
    counts = {w: (len(cost_tables(summary, w)), len(latency_tables(summary, w))) for w in (80, 100, 120)}
    assert counts == {80: (2, 2), 100: (2, 2), 120: (1, 1)}
    stages = [header for table in latency_tables(summary, 80) for header in headers(table)[1:]]
    assert stages == list(STAGES)


def test_numbers_end_in_the_same_column(summary: Summary) -> None:
    lines = [line for line in printed(summary, 120) if line.startswith(("png", "factorized"))]
    assert len(lines) == 8
    assert len({len(line.rstrip()) for line in lines[:4]}) == 1


def test_rows_stand_in_the_order_of_the_summary() -> None:
    small = trade_off()
    text = "\n".join(printed(small, 120))
    first = [text.index(f"\n{row.method} ") for row in small.rows]
    assert first == sorted(first)
    assert "tiny: accuracy" in text
