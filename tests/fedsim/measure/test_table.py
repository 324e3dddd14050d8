import io

import pytest
from rich.console import Console
from rich.table import Table

from fedsim.measure.schema import Summary
from fedsim.measure.table import cost_table, latency_table, print_results

from .runs import CODEC, LEARNED, LOCAL, sample, summary_of, trade_off

#: What stands where a figure does not apply: an en dash.
DASH = "\u2013"


def rendered(table: Table, width: int = 120) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text().splitlines()


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
        "100.0 ± 21.7",  # Wilson: (0.5655, 1)
        "80 / 248 / 300",
        "91 / 259 / 311",
        "180 / 348 / 400",
        "90.0 k",
        "300",
    ]


def test_what_does_not_apply_and_what_could_not_be_measured_look_different() -> None:
    events = [*sample("local", 0, outcome="local"), *sample("png", 0, payload=9, label=None)]
    table = cost_table(summary_of(events, {"local": LOCAL, "png": CODEC}))
    assert cells(table, "local")[1:6] == [DASH, "100.0 ± 39.7", DASH, DASH, DASH]
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


@pytest.fixture(scope="module")
def summary() -> Summary:
    return trade_off()


def test_both_tables_fit_120_columns_with_every_method_on_one_line(summary: Summary) -> None:
    for table in (cost_table(summary), latency_table(summary)):
        lines = rendered(table)
        assert max(len(line.rstrip()) for line in lines) <= 120
        for row in summary.rows:
            assert any(line.strip().startswith(row.method + " ") for line in lines), row.method
        assert not any("…" in line for line in lines)


def test_numbers_end_in_the_same_column(summary: Summary) -> None:
    lines = [line for line in rendered(cost_table(summary)) if line.strip().startswith(("png", "factorized"))]
    assert len({len(line.rstrip()) for line in lines}) == 1


def test_rows_stand_in_the_order_of_the_summary(summary: Summary) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    print_results(summary, console)
    text = console.export_text()
    first = [text.index(f" {row.method} ") for row in summary.rows]
    assert first == sorted(first)
    assert "tiny: accuracy" in text
