import io

import pytest
from rich.console import Console
from rich.table import Table

from fedsim.measure.tradeoff import Tradeoff, analyse, print_tradeoff
from fedsim.measure.tradeoff.tables import comparison_tables, label_tables, reasons

from .points import codec, point, sweep, uncut

WIDE = 500
DASH = "\u2013"


def cells(table: Table, name: str) -> dict[str, str]:
    """The texts of a row, by header."""
    at = list(table.columns[0].cells).index(name)
    return {str(column.header): str(list(column.cells)[at]) for column in table.columns}


def printed(tradeoff: Tradeoff, width: int) -> list[str]:
    file = io.StringIO()
    print_tradeoff(tradeoff, Console(width=width, file=file))
    return file.getvalue().splitlines()


def test_a_row() -> None:
    points = [point("vq-1", 41.25 + seed, 0.9 + 0.01 * seed, seed) for seed in (1, 2, 3)]
    points += [codec("png", 470, 0.95, seed, constant=80) for seed in (1, 2, 3)]
    (table,) = label_tables(analyse([*points, uncut(0.96), uncut(0.96, 2)]), WIDE)
    assert cells(table, "vq-1") == {
        "method": "vq-1",
        "seeds": "3",
        "bytes,\nmean": "43.2",
        "±": "2.48",
        "of it\nconstant": "0.00",
        "accuracy, %\n(95 %)": f"92.0 (89.5{DASH}94.5)",
        "head\nMAC": "5.00 M",
        "head\nparam.": "80.0 k",
        "front:\nbytes": "yes",
        "front:\nwith MAC": "yes",
    }
    assert cells(table, "png")["of it\nconstant"] == "80.0"
    local = cells(table, "local")
    assert (local["seeds"], local["bytes,\nmean"], local["±"], local["front:\nbytes"]) == (
        "2",
        DASH,
        DASH,
        DASH,
    )


def test_with_one_seed_the_interval_is_named_for_what_it_is_and_bytes_have_none() -> None:
    (table,) = label_tables(analyse([point("vq-1", 10, 0.9)]), WIDE)
    row = cells(table, "vq-1")
    assert row["accuracy, %\n(Wilson 95 %)"] == f"90.0 (88.0{DASH}91.7)"
    assert "±" not in row
    assert "of it\nconstant" not in row


def test_a_comparison() -> None:
    points = []
    for seed, k in ((1, 2.0), (2, 2.1)):
        for i, (size, accuracy) in enumerate([(20, 0.8), (40, 0.9)]):
            points.append(point(f"factorized-{i}", size, accuracy, seed))
            points.append(point(f"vq-{i}", k * size, accuracy, seed))
    tradeoff = analyse([*points, codec("png", 470, 0.95, 1), codec("png", 470, 0.95, 2)])
    (table,) = comparison_tables(tradeoff, WIDE)
    assert table.title == "against factorized: bytes at equal accuracy, accuracy at equal bytes"
    row = cells(table, "vq")
    assert row["BD-rate, %\n(95 %)"] == "+105 (+50 to +179)"
    assert row["over accuracies\nin common, %"] == f"80.0{DASH}90.0"
    # By the bytes of the second seed they have nothing in common.
    assert row["over sizes\nin common, B"] == DASH
    assert set(list(cells(table, "png").values())[1:]) == {DASH}
    assert reasons(tradeoff) == [
        f"no BD-accuracy of vq: no sizes in common (seed 1: 40{DASH}80 B, the anchor 20{DASH}40 B)",
        "no BD-rate and BD-accuracy of png: one point, a curve takes two",
    ]


def test_families_stand_apart_and_single_points_together() -> None:
    (table,) = label_tables(analyse(sweep()), WIDE)
    ends = [label for label, row in zip(table.columns[0].cells, table.rows, strict=True) if row.end_section]
    assert ends[0] == "factorized-3"
    assert ends[-2:] == ["jpeg-4", "webp-4"]
    assert len(ends) == 10


@pytest.mark.parametrize("width", [30, 80, 120, 200])
@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_nothing_is_lost_at_any_width(width: int, seeds: tuple[int, ...]) -> None:
    tradeoff = analyse(sweep(seeds))
    lines = printed(tradeoff, width)
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    for table in (*label_tables(tradeoff, WIDE), *comparison_tables(tradeoff, WIDE)):
        for column in table.columns:
            assert all(part in text for part in str(column.header).split("\n"))
            assert all(str(cell) in text for cell in column.cells)
    for note in (*reasons(tradeoff), *tradeoff.notes):
        assert f"Note: {note}." in text
    if width >= 80:
        assert max(len(line) for line in lines if not line.startswith("Note:")) <= width


def test_a_sweep_without_an_anchor_has_no_comparison() -> None:
    tradeoff = analyse([uncut(0.9)])
    assert comparison_tables(tradeoff, WIDE) == []
    assert "against" not in "\n".join(printed(tradeoff, 100))
    assert printed(analyse([]), 100)
