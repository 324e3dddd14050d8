"""How long a device computes: by a roofline, by a measurement on this host, or by a table.

A network's speed on one device varies with its layers by up to ten times (depthwise and 1x1 convolutions
at the low end, dense 5x5 ones at the high end), so a rate has a range, and so has a time made of it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Coding", "Layer", "Roofline", "Scaled", "Serving", "Table"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer asks of a device for one sample.

    Args:
        macs: multiply-accumulate operations (2 FLOP each).
        bytes: weights and activations read, and activations written.
        name: where it stands in the network.
    """

    macs: int
    bytes: int
    name: str = ""

    def __post_init__(self) -> None:
        for key in ("macs", "bytes"):
            _at_least_0(f"{key} of a layer", getattr(self, key))


@dataclass(frozen=True, slots=True)
class Roofline:
    """Time from work: a layer is bound by arithmetic or by memory, whichever takes longer.

    ``t = t0 + sum_l (t1 + max(MAC_l / pi, B_l / beta))``; Williams, Waterman and Patterson, "Roofline: an
    insightful visual performance model for multicore architectures", Communications of the ACM 52(4),
    2009, layer by layer, with a fixed overhead for each inference and, where it is known, for each layer.

    Args:
        overhead_s: of one inference, whatever its size (t0).
        macs_per_s: arithmetic rate (pi).
        bytes_per_s: memory rate (beta); None where only arithmetic is modelled.
        macs_per_s_range: least and most of the arithmetic rate over networks; None where it is not known.
        layer_s: overhead of each layer (t1), such as the call of an operator.

    Raises:
        ValueError: a rate that is not above 0, an overhead below 0, or a rate outside its range.
    """

    overhead_s: float
    macs_per_s: float
    bytes_per_s: float | None = None
    macs_per_s_range: tuple[float, float] | None = None
    layer_s: float = 0.0

    def __post_init__(self) -> None:
        _at_least_0("overhead_s", self.overhead_s)
        _at_least_0("layer_s", self.layer_s)
        _above_0("macs_per_s", self.macs_per_s)
        if self.bytes_per_s is not None:
            _above_0("bytes_per_s", self.bytes_per_s)
        if self.macs_per_s_range is not None:
            low, high = self.macs_per_s_range
            _above_0("the lower end of macs_per_s_range", low)
            if not low <= self.macs_per_s <= high < math.inf:
                raise ValueError(f"macs_per_s {self.macs_per_s:g} lies outside its range {low:g} to {high:g}")

    def seconds(self, layers: Iterable[Layer]) -> float:
        """Time of one inference through these layers, in seconds."""
        return self._seconds(layers, self.macs_per_s)

    def seconds_range(self, layers: Iterable[Layer]) -> tuple[float, float]:
        """Least and most time of one inference, in seconds; twice :meth:`seconds` where no range is known."""
        layers = tuple(layers)
        slow, fast = self.macs_per_s_range or (self.macs_per_s, self.macs_per_s)
        return self._seconds(layers, fast), self._seconds(layers, slow)

    def _seconds(self, layers: Iterable[Layer], macs_per_s: float) -> float:
        bytes_per_s = math.inf if self.bytes_per_s is None else self.bytes_per_s
        return self.overhead_s + math.fsum(
            self.layer_s + max(layer.macs / macs_per_s, layer.bytes / bytes_per_s) for layer in layers
        )


@dataclass(frozen=True, slots=True)
class Scaled:
    """Time from a measurement on this host: the device takes so many times as long.

    Args:
        factor: device time over host time.

    Raises:
        ValueError: a factor that is not above 0.
    """

    factor: float

    def __post_init__(self) -> None:
        _above_0("factor", self.factor)

    def seconds(self, host_seconds: float) -> float:
        """Time on the device of what took ``host_seconds`` here, in seconds."""
        _at_least_0("host_seconds", host_seconds)
        return self.factor * host_seconds


@dataclass(frozen=True, slots=True)
class Table:
    """Times measured on the device itself.

    Args:
        times: seconds of one inference by the name of what ran.

    Raises:
        ValueError: a time below 0, or a table of nothing.
    """

    times: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.times:
            raise ValueError("a table of times has at least one entry")
        for name, seconds in self.times.items():
            _at_least_0(f"the time of {name!r}", seconds)

    def seconds(self, name: str) -> float:
        """Time of one inference, in seconds.

        Raises:
            ValueError: a name that is not in the table. The message lists what is.
        """
        if name not in self.times:
            near = difflib.get_close_matches(name, self.times, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"no time measured for {name!r}{hint}; there are {', '.join(sorted(self.times))}"
            )
        return self.times[name]


@dataclass(frozen=True, slots=True)
class Coding:
    """Time of an entropy coder, which is linear in the symbols: ``t = a + b N``.

    It is no matter of multiply-accumulates: both numbers are measured.

    Args:
        fixed_s: of one payload (a).
        per_symbol_s: of each symbol (b).

    Raises:
        ValueError: one of them below 0.
    """

    fixed_s: float
    per_symbol_s: float

    def __post_init__(self) -> None:
        _at_least_0("fixed_s", self.fixed_s)
        _at_least_0("per_symbol_s", self.per_symbol_s)

    def seconds(self, symbols: float) -> float:
        """Time to code one payload of so many symbols, in seconds."""
        _at_least_0("symbols", symbols)
        return self.fixed_s + self.per_symbol_s * symbols


@dataclass(frozen=True, slots=True)
class Serving:
    """Time of a batch on a tail server, which is linear in its samples: ``t = a + b n``.

    Args:
        fixed_s: of one batch (a).
        each_s: of each sample (b).

    Raises:
        ValueError: one of them below 0.
    """

    fixed_s: float
    each_s: float

    def __post_init__(self) -> None:
        _at_least_0("fixed_s", self.fixed_s)
        _at_least_0("each_s", self.each_s)

    def seconds(self, batch: int) -> float:
        """Time of one batch of so many samples, in seconds."""
        _at_least_0("batch", batch)
        return self.fixed_s + self.each_s * batch


def _at_least_0(what: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{what} is {value}, and has to be 0 or more")


def _above_0(what: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{what} is {value}, and has to be more than 0")
