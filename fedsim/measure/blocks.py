"""Tables for a terminal, whole at whatever width it has: columns that do not fit become another table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["NOT_APPLICABLE", "Block", "engineering", "print_tables", "spread"]

NOT_APPLICABLE = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Block:
    """Columns that stay together in one table, each a header and a cell for every row."""

    subject: str  #: a word for the table's title
    columns: Sequence[tuple[str, Sequence[str]]]


def spread(
    name: str,
    first: str,
    rows: Sequence[str],
    blocks: Sequence[Block],
    width: int,
    sections: Sequence[int] = (),
) -> list[Table]:
    """The blocks in their order, as many in each table as fit the width beside the first column.

    Args:
        name: of what the tables are about; their titles begin with it.
        first: header of the first column, which every table has.
        rows: cells of the first column.
        blocks: the other columns.
        width: characters of a line. A block wider than that gets longer lines.
        sections: rows after which a line is drawn.
    """
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and _natural_width(_table(name, first, rows, [*groups[-1], block], sections)) <= width:
            groups[-1].append(block)
        else:
            groups.append([block])
    tables = [_table(name, first, rows, group, sections) for group in groups]
    for table in tables:
        table.width = _natural_width(table)  # or rich would squeeze it into a narrower console
    return tables


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print them with nothing cut off or broken, an empty line after each."""
    for table in tables:
        console.print(table, crop=False, no_wrap=True, overflow="ignore")
        console.print()


def engineering(value: int) -> str:
    """Three significant digits with a metric prefix: 1234567 as ``1.23 M``."""
    scaled = float(value)
    for prefix in ("", "k", "M", "G", "T"):
        if scaled < 999.5 or prefix == "T":
            break
        scaled /= 1000
    if not prefix:
        return str(value)
    digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{digits}f} {prefix}"


def _table(
    name: str, first: str, rows: Sequence[str], blocks: Sequence[Block], sections: Sequence[int]
) -> Table:
    title = f"{name}: {', '.join(dict.fromkeys(block.subject for block in blocks))}"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column(first, no_wrap=True)
    columns = [column for block in blocks for column in block.columns]
    for header, _ in columns:
        table.add_column(header, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(row, *(cells[index] for _, cells in columns), end_section=index in sections)
    return table


def _natural_width(table: Table) -> int:
    """Characters of a line of the table where nothing limits it."""
    return Console(width=10_000).measure(table).maximum
