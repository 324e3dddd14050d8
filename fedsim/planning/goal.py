"""A goal: bounds on some quantities, and one that is to be as low as they let it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedsim.planning.errors import PlanningError
from fedsim.planning.setting import QUANTITIES, Setting

__all__ = ["MINIMISED", "Goal", "Percentile", "asked"]

#: Of the latency: half of the samples, or 95 of 100, take no longer.
Percentile = Literal["p50", "p95"]
#: What can be asked to be least, by the words of the command line.
MINIMISED = ("error", "joules", "latency", "bytes", "wire-bytes")

_LATENCY = "latency"
#: What is asked to be least if nothing is said: the first that has no bound and is known of all.
_BY_DEFAULT = ("error", "joules", _LATENCY, "bytes")
#: An error is compared with the one that is allowed, which for that is at least this: nothing divides by 0.
_LEAST_ERROR = 1e-3


@dataclass(frozen=True)
class Goal:
    """What a setting has to keep to, and what decides between those that do.

    Args:
        bounds: the most that each quantity may be, by names of :data:`QUANTITIES`. Of the accuracy it is
            the error.
        minimise: the quantity that is to be least; None for what :meth:`settled` finds.
        percentile: of the latency, where nothing else says it.
    """

    bounds: Mapping[str, float]
    minimise: str | None = None
    percentile: Percentile = "p95"

    @property
    def objectives(self) -> tuple[str, ...]:
        """What settings are compared in: the accuracy, what has a bound, and what is to be least."""
        named = {"error", *self.bounds, self.minimise}
        return tuple(name for name in QUANTITIES if name in named)

    def met(self, setting: Setting, without: str | None = None) -> bool:
        """Whether a setting keeps to all bounds, or to all but one; what is not known does not."""
        return all(self.kept(setting, name) for name in self.bounds if name != without)

    def kept(self, setting: Setting, name: str) -> bool:
        """Whether a setting keeps to the bound of a quantity."""
        value = QUANTITIES[name].read(setting)
        return value is not None and value <= self.bounds[name]

    def shortfall(self, setting: Setting) -> float:
        """By how much a setting misses the bounds: what it has too much, as shares of them, added up."""
        return math.fsum(self._excess(setting, name) for name in self.bounds)

    def _excess(self, setting: Setting, name: str) -> float:
        value, most = QUANTITIES[name].read(setting), self.bounds[name]
        if value is None:
            return math.inf
        if name == "error":
            most = max(most, _LEAST_ERROR)
        return max(0.0, value / most - 1)

    def settled(self, settings: Sequence[Setting]) -> Goal:
        """The goal with what is to be least, for settings to be compared in it.

        Raises:
            PlanningError: it is about a quantity that is known of no setting.
        """

        def known(name: str, of: Callable[[Iterable[bool]], bool] = any) -> bool:
            return of(QUANTITIES[name].read(setting) is not None for setting in settings)

        for name in self.bounds:
            if not known(name):
                option = QUANTITIES[name].option
                raise PlanningError(f"{option} = {self.bounds[name]:g}: {_unknown(name)}")
        if self.minimise is not None:
            if not known(self.minimise):
                raise PlanningError(f"--minimise = {self.minimise}: {_unknown(self.minimise)}")
            return self
        order = [f"{_LATENCY}-{self.percentile}" if name == _LATENCY else name for name in _BY_DEFAULT]
        order = [name for name in order if known(name, all)]
        free = [name for name in order if name not in self.bounds]
        return replace(self, minimise=(free or order[1:] or order)[0])

    def __str__(self) -> str:
        words = [QUANTITIES[name].bound(self.bounds[name]) for name in QUANTITIES if name in self.bounds]
        if self.minimise is not None:
            words.append(QUANTITIES[self.minimise].extreme)
        return ", ".join(words)


def asked(
    *,
    accuracy: float | None = None,
    joules: float | None = None,
    latency_ms: float | None = None,
    payload_bytes: float | None = None,
    wire_bytes: float | None = None,
    minimise: str | None = None,
    percentile: str = "p95",
) -> Goal:
    """The goal of a command line.

    Args:
        accuracy: at least, 0..1.
        joules: of a sample on its device, at most.
        latency_ms: at most, of this percentile.
        payload_bytes: of a sample, at most, in the mean.
        wire_bytes: the same with all that the link carries.
        minimise: one of :data:`MINIMISED`.
        percentile: of the latency.

    Raises:
        PlanningError: names the option, its value, and what is allowed.
    """
    if percentile not in ("p50", "p95"):
        raise PlanningError(f"--latency-of = {percentile}: allowed are p50, p95")
    latency = f"{_LATENCY}-{percentile}"
    bounds: dict[str, float] = {}
    if accuracy is not None:
        if not 0 <= accuracy <= 1:
            hint = (
                f"; 90 per cent is 0.9, so {accuracy:g} is {accuracy / 100:g}" if 1 < accuracy <= 100 else ""
            )
            raise PlanningError(f"--accuracy = {accuracy:g}: allowed is a number from 0 to 1{hint}")
        bounds["error"] = 1 - accuracy
    given = {"joules": joules, latency: latency_ms, "bytes": payload_bytes, "wire-bytes": wire_bytes}
    for name, most in given.items():
        if most is None:
            continue
        if not (math.isfinite(most) and most > 0):
            raise PlanningError(f"{QUANTITIES[name].option} = {most:g}: allowed is a number, more than 0")
        bounds[name] = most
    if minimise is not None and minimise not in MINIMISED:
        raise PlanningError(f"--minimise = {minimise}: allowed are {', '.join(MINIMISED)}")
    least = latency if minimise == _LATENCY else minimise
    return Goal(bounds, least, "p50" if percentile == "p50" else "p95")


def _unknown(name: str) -> str:
    title = QUANTITIES[name].title
    if name == "joules":
        return (
            f"the {title} is not known of any setting; it takes devices that say their powers, fleet.N.device"
        )
    return f"the {title} is not known of any setting"
