"""How far a prediction may lie from what was measured, as a check that a program can ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedsim.compare.figures import FIGURES, Comparison, Figure, MethodComparison
from fedsim.compare.folder import ComparisonError
from fedsim.errors import FedsimError

__all__ = ["Tolerance", "ToleranceError"]

_BYTES = ("payload", "frame")
_OTHERS = ("bytes", "joules", "predictions")


class ToleranceError(FedsimError):
    """A prediction that lies further off than was asked for. The message names each method and figure."""

    exit_code = 1


@dataclass(frozen=True)
class Tolerance:
    """The largest errors that are allowed, as shares: of every method that both runs have.

    ``mean``, ``p50`` and ``p95`` are of the total latency, ``joules`` is of the mean energy of a sample.
    ``bytes`` is what payload and frame of any one sample may differ by, ``predictions`` the share of the
    samples that may be told otherwise.
    """

    limits: Mapping[str, float]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Tolerance:
        """Of words such as ``mean=5%,p95=10%``.

        Raises:
            ComparisonError: a word that is none, or a figure that is unknown or given twice.
        """
        limits: dict[str, float] = {}
        for word in (part.strip() for text in words for part in text.split(",")):
            name, _, value = (part.strip() for part in word.partition("="))
            limit = _percent(value)
            if name not in (*FIGURES, *_OTHERS) or limit is None:
                raise ComparisonError(
                    f"--tolerance: {word!r} is no limit; expected such as mean=5%, of "
                    f"{', '.join((*FIGURES, *_OTHERS))}, each 0% or more"
                )
            if name in limits:
                raise ComparisonError(f"--tolerance: {name} is given twice")
            limits[name] = limit
        return cls(limits)

    def misses(self, comparison: Comparison) -> list[str]:
        """What lies further off, a line for each method and figure. What is not known in both is a miss."""
        return [
            f"{one.method}: {what}"
            for one in comparison.methods
            for name, limit in self.limits.items()
            for what in _misses(one, name, limit)
        ]

    def check(self, comparison: Comparison) -> None:
        """Hold the limits.

        Raises:
            ToleranceError: one is missed.
        """
        if missed := self.misses(comparison):
            raise ToleranceError("not within the tolerance:\n" + "\n".join(missed))


def _percent(value: str) -> float | None:
    try:
        share = float(value.removesuffix("%")) / 100
    except ValueError:
        return None
    return share if value.endswith("%") and math.isfinite(share) and share >= 0 else None


def _misses(one: MethodComparison, name: str, limit: float) -> Iterator[str]:
    for what, error in _errors(one, name):
        if error is None:
            yield f"{what}: not known in both runs"
        elif abs(error) > limit:
            yield f"{what}: off by {100 * error:+.3g} %, allowed is {100 * limit:g} %"


def _errors(one: MethodComparison, name: str) -> Iterator[tuple[str, float | None]]:
    if name in FIGURES:
        figure: Figure = name
        total = one.timings.get("total")
        yield f"{figure} of the total", None if total is None else total.error(figure)
    elif name == "bytes":
        # A method that sends nothing has no bytes to differ in.
        silent = not any(outcomes["answered"] for outcomes in one.outcomes)
        for level in () if silent else _BYTES:
            size = one.sizes.get(level)
            yield f"{level} of one sample", None if size is None else size.largest_error
    elif name == "joules":
        energy = one.joules.get("total")
        yield "energy of a sample", None if energy is None else energy.error
    else:
        known = one.answers.predicted
        yield "predictions", None if not known else 1 - one.answers.alike / known
