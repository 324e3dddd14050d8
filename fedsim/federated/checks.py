"""What a client may reply; whoever replies anything else is left out by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError
from fedsim.federated.evaluation import Result

__all__ = ["Limits", "check_classes", "check_results", "check_update", "one_line"]

_SHOWN = 300  # characters of what a client says of itself
_MOST_RESULTS, _LONGEST_NAME = 64, 64  # of a client's evaluation, and of a predictor


@dataclass(frozen=True)
class Limits:
    """What the server puts up with.

    What keeps within these limits is believed: a client that lies about its own samples in a plausible way
    is not found out, by these checks or by any.

    Args:
        payload_bytes: of a reply; a longer one is not read.
        samples: that a client may say it has counted or trained on in a round, all classes together. Means
            are weighted by them, so that a client that says 2^40 would decide alone.
        magnitude: absolute value of a feature's mean, or of a weight.
        nodes_s: seconds until all clients have to be there.
        reply_s: seconds until replies have to be there, on engines that wait for them (Flower's timeout).

    Raises:
        FederationError: a limit that nothing keeps within.
    """

    payload_bytes: int = 64 << 20
    samples: int = 1 << 24
    magnitude: float = 1e6
    nodes_s: float = 60.0
    reply_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("payload_bytes", "samples", "magnitude", "nodes_s", "reply_s"):
            if not (value := getattr(self, name)) > 0:
                raise FederationError(f"the limit {name} is {value}, allowed is more than 0")


def check_classes(
    statistics: ClassStatistics,
    classes: int,
    *,
    slots: int = 1,
    squares: bool = False,
    empty: bool = False,
) -> None:
    """See that statistics are of known classes, and of the form that the method has.

    Statistics of another form are as valid by themselves, and cannot be merged with those of the others.

    Args:
        statistics: of a client.
        classes: that there are.
        slots: prototypes that a class may have.
        squares: sums of squares are there.
        empty: there may be no class at all. A client has samples, or it would not have been asked.

    Raises:
        FederationError: names what is wrong, and the class.
    """
    if len(statistics) and (last := int(statistics.classes[-1])) >= classes:
        raise FederationError(f"class {last} is unknown; classes are 0 to {classes - 1}")
    if (beyond := statistics.slots >= slots).any():
        row = int(np.flatnonzero(beyond)[0])
        if slots == 1:
            raise FederationError(f"class {statistics.classes[row]} has several prototypes, expected one")
        slot, last = statistics.slots[row], slots - 1
        raise FederationError(f"slot {slot} of class {statistics.classes[row]}; slots are 0 to {last}")
    if (statistics.squares is not None) != squares:
        found, expected = ("without", "with") if squares else ("with", "without")
        raise FederationError(f"statistics {found} squares, expected are such {expected}")
    if not empty and not len(statistics):
        raise FederationError("statistics of no class")


def check_update(update: Any, limits: Limits) -> None:
    """See that what a method's ``receive`` has made of a reply keeps within the limits.

    Class statistics are looked at, and numbers of samples, arrays by name, and tuples of all of these; of
    anything else nothing is known.

    Raises:
        FederationError: too many samples, or values too large.
    """
    if isinstance(update, tuple):
        for part in update:
            check_update(part, limits)
    elif isinstance(update, ClassStatistics):
        _check_samples(sum(update.counts.tolist()), limits)
        bounds = update.counts[:, None] * limits.magnitude
        if (beyond := np.abs(update.sums) > bounds).any():
            row = int(np.flatnonzero(beyond.any(1))[0])
            mean = np.abs(update.sums[row] / update.counts[row]).max()
            raise FederationError(
                f"a mean of class {update.classes[row]} is {mean:g}, allowed are at most {limits.magnitude:g}"
            )
        squares = update.squares
        if squares is not None and (squares > update.counts[:, None] * limits.magnitude**2).any():
            raise FederationError(
                f"a mean square is beyond that of {limits.magnitude:g}, the largest allowed"
            )
    elif isinstance(update, int):
        _check_samples(update, limits)
    elif isinstance(update, Mapping):
        for name, value in update.items():
            if isinstance(value, np.ndarray) and value.size and value.dtype.kind == "f":
                largest = max(abs(float(value.max())), abs(float(value.min())))
                if not largest <= limits.magnitude:
                    most = f"allowed are at most {limits.magnitude:g}"
                    raise FederationError(f"{name} has a value of {largest:g}, {most}")


def check_results(results: Sequence[Result], samples: Mapping[str, int]) -> None:
    """See that results are of samples that there are.

    Args:
        results: of one client.
        samples: how many there are, by test set.

    Raises:
        FederationError: names the result, or there are too many.
    """
    if len(results) > _MOST_RESULTS:
        raise FederationError(f"{len(results)} results, allowed are at most {_MOST_RESULTS}")
    for result in results:
        if not result.predictor.isidentifier() or len(result.predictor) > _LONGEST_NAME:
            raise FederationError(f"a result of a predictor called {one_line(result.predictor)!r}")
        if result.total > (most := samples[result.test]):
            raise FederationError(
                f"{result.predictor}, {result.test} test: {result.total} samples, there are {most}"
            )


def one_line(text: str | None) -> str:
    """What a client says of itself, fit for a report: one line of printable characters, not too long."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in (text or "")[: 4 * _SHOWN]).split())
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _check_samples(count: int, limits: Limits) -> None:
    if count > limits.samples:
        raise FederationError(f"{count} samples, allowed are at most {limits.samples}")
