"""Findings for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from fedsim.doctor.finding import Finding, State

__all__ = ["table"]

_STYLES: dict[State, str] = {"yes": "green", "no": "dim", "not allowed": "yellow", "unknown": "yellow"}


def table(findings: Iterable[Finding]) -> Table:
    """One row for each finding; how to get what is there already is left out."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("what", no_wrap=True)
    shown.add_column("state", no_wrap=True)
    shown.add_column("found", overflow="fold", ratio=1)
    shown.add_column("needed for, and how to get it", overflow="fold", ratio=1)
    for finding in findings:
        remedy = "" if finding.state == "yes" or not finding.remedy else f". To get it: {finding.remedy}"
        shown.add_row(
            finding.name,
            Text(finding.state, style=_STYLES[finding.state]),
            Text(finding.found),
            Text(finding.needed_for + remedy),
        )
    return shown
