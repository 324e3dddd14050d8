"""What a client may reply; whoever replies anything else is left out by name."""

from __future__ import annotations

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError

__all__ = ["check_classes"]


def check_classes(statistics: ClassStatistics, classes: int) -> None:
    """See that statistics are of known classes.

    Raises:
        FederationError: names the class.
    """
    if len(statistics) and (last := int(statistics.classes[-1])) >= classes:
        raise FederationError(f"class {last} is unknown; classes are 0 to {classes - 1}")
