"""One fact about a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "State"]

#: ``not allowed``: it is there, and not for this user; ``unknown``: it cannot be told.
State = Literal["yes", "no", "not allowed", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Args:
        name: of the thing.
        state: whether it is there.
        found: what is there, or what was said in its place.
        needed_for: what fedsim does with it.
        remedy: how to get it.
    """

    name: str
    state: State
    found: str
    needed_for: str
    remedy: str
