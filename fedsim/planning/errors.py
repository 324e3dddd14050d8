"""What can go wrong in planning."""

from __future__ import annotations

from fedsim.errors import FedsimError

__all__ = ["PlanningError"]


class PlanningError(FedsimError):
    """A plan that cannot be made: of a goal that is none, or of runs that do not belong together."""
