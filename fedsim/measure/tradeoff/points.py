"""What a trade-off is made from: one point for each method and seed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Point", "by_label"]

#: What has to be the same for all seeds of a label.
_CONSTANT = ("family", "learned", "rate", "level", "cut", "head_macs", "head_parameters", "local")


@dataclass(frozen=True)
class Point:
    """What one method, trained from one seed, came to on the test set.

    Raises:
        ValueError: an accuracy outside 0..1, a size or cost below 0, or no sample.
    """

    family: str  #: the curve it belongs to
    label: str  #: name of the method, the same for all seeds
    seed: int
    learned: bool  #: whether the bottleneck was trained
    rate: float | None  #: beta, quality, bits: what moves it along its curve
    level: int | None  #: of a bottleneck with several rates in one model
    cut: str  #: layer at which the network is cut
    payload_bytes: float  #: mean over the samples; of a local method 0
    accuracy: float  #: 0..1
    samples: int  #: of the test set
    head_macs: int  #: of one sample on the device, encoder included
    head_parameters: int
    constant_bytes: int  #: of each payload, the same in all and known beforehand
    local: bool  #: the whole network ran on the device: the uncut reference, which sends nothing

    def __post_init__(self) -> None:
        sizes = (self.payload_bytes, self.constant_bytes, self.head_macs, self.head_parameters)
        if not all(math.isfinite(size) and size >= 0 for size in sizes):
            raise ValueError(
                f"{self._name}: payload {self.payload_bytes} B, constant {self.constant_bytes} B, head "
                f"{self.head_macs} MACs, {self.head_parameters} parameters: none may be below 0"
            )
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"{self._name}: accuracy {self.accuracy}, expected 0..1")
        if self.samples < 1:
            raise ValueError(f"{self._name}: {self.samples} samples, expected at least 1")

    @property
    def content_bytes(self) -> float:
        """What of the payload depends on the sample."""
        return max(0.0, self.payload_bytes - self.constant_bytes)

    @property
    def _name(self) -> str:
        return f"{self.label}, seed {self.seed}"


def by_label(points: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of each label, by seed; the labels in the order of their families' names.

    Raises:
        ValueError: a label has two points of one seed, or its points disagree in what no seed changes.
    """
    groups: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda p: (p.family, p.label, p.seed)):
        groups.setdefault(point.label, []).append(point)
    for label, group in groups.items():
        seeds = [point.seed for point in group]
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"{label}: two points of one seed, seeds {seeds}")
        for name in _CONSTANT:
            values = {getattr(point, name) for point in group}
            if len(values) > 1:
                raise ValueError(f"{label}: {name} differs between seeds: {sorted(values, key=str)}")
    return groups
