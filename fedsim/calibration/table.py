"""A device's numbers for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from fedsim.hardware import Device, quantities

__all__ = ["table"]


def table(device: Device) -> Table:
    """One row for each number, with its range, its trust and how it comes about."""
    shown = Table(box=None, pad_edge=False)
    for title in ("what", "measured", "trust"):
        shown.add_column(title, no_wrap=True)
    shown.add_column("how", overflow="fold", ratio=1)
    for key, quantity in quantities(device):
        shown.add_row(Text(key), Text(str(quantity)), quantity.trust, Text(quantity.where or ""))
    return shown
