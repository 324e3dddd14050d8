"""Which meters this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.energy import ina3221, powercap, zeus
from edge.energy.meter import Meter, Source

__all__ = ["SYSFS", "find_meters", "sources"]

#: Where sysfs lies; in a container, which is not shown the energy counters, a copy that it was given.
SYSFS = (Path("/sys"), Path("/zeus_sys"))


def sources(roots: Sequence[Path] = SYSFS) -> list[Source]:
    """Every way of measuring that there is, with its meters here, or why it has none.

    Zeus is left out on a board whose supply is measured: its GPU lies behind that.
    """
    found = [powercap.find(roots), ina3221.find(roots)]
    if found[-1].meters:
        found.append(
            Source("zeus", "no", (), "not needed: ina3221 measures the whole board, its GPU included")
        )
    else:
        found.append(zeus.find())
    return found


def find_meters(roots: Sequence[Path] = SYSFS) -> list[Meter]:
    """The meters that can be read here; empty where there is none, and :func:`sources` says why.

    Looking takes some tenths of a second where Zeus is installed: do it once, outside of what is measured.
    """
    return [meter for source in sources(roots) for meter in source.meters]
