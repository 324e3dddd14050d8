"""When the stages of one sample began, and how long each took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Clock"]


@dataclass(slots=True)
class Clock:
    """The stages of one sample, in readings of ``time.perf_counter``."""

    began: float = field(default_factory=time.perf_counter)
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    ended: float | None = None
    due: float | None = None  #: when its schedule had the sample due, where there is one
    modelled: set[str] = field(default_factory=set)  #: stages that took as long as a model says

    def add(self, stage: str, start: float, duration: float, *, modelled: bool = False) -> float:
        """Note a stage; returns when it ended."""
        self.spans.append((stage, start, duration))
        if modelled:
            self.modelled.add(stage)
        return start + duration

    def stop(self, at: float | None = None) -> None:
        """The sample is final, now or at an earlier reading."""
        self.ended = time.perf_counter() if at is None else at
