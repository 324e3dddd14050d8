"""A number that says what it is: value, unit, source, how it was obtained, how far it is to be trusted.

Constants of radios and boards rot by copying: a digit is swapped, a board mistaken for its predecessor, a
unit lost. So no number here stands alone::

    {value = 438.39, unit = "mW/Mbps", source = "Huang et al. 2012", where = "Table 4",
     how = "measured", trust = "B+", verified = "second-hand"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fedsim.scenario_problems import unknown

__all__ = ["UNITS", "Provenance", "Quantity", "Unit", "of"]


@dataclass(frozen=True)
class Unit:
    """What a unit measures, and how many SI units it is."""

    dimension: str
    si: float

    def to_si(self, value: float) -> float:
        """``value`` of these in SI units."""
        return value * self.si if self.si >= 1 else value / round(1 / self.si)  # 1e-3 is no float, 1000 is


#: Every unit that a preset may use; what one measures, and in SI units.
UNITS: Final = MappingProxyType(
    {
        "W": Unit("power", 1.0),
        "mW": Unit("power", 1e-3),
        "uW": Unit("power", 1e-6),
        "J/bit": Unit("power per rate", 1.0),
        "nJ/bit": Unit("power per rate", 1e-9),
        "mW/Mbps": Unit("power per rate", 1e-9),
        "J": Unit("energy", 1.0),
        "mJ": Unit("energy", 1e-3),
        "uJ": Unit("energy", 1e-6),
        "mWh": Unit("energy", 3.6),
        "s": Unit("time", 1.0),
        "ms": Unit("time", 1e-3),
        "us": Unit("time", 1e-6),
        "bit/s": Unit("bit rate", 1.0),
        "kbit/s": Unit("bit rate", 1e3),
        "Mbit/s": Unit("bit rate", 1e6),
        "Gbit/s": Unit("bit rate", 1e9),
        "MAC": Unit("work", 1.0),
        "MMAC": Unit("work", 1e6),
        "GMAC": Unit("work", 1e9),
        "MAC/s": Unit("compute rate", 1.0),
        "MMAC/s": Unit("compute rate", 1e6),
        "GMAC/s": Unit("compute rate", 1e9),
        "TMAC/s": Unit("compute rate", 1e12),
        "MB/s": Unit("memory rate", 1e6),
        "GB/s": Unit("memory rate", 1e9),
        "B": Unit("size", 1.0),
        "kB": Unit("size", 1e3),
        "MB": Unit("size", 1e6),
        "GB": Unit("size", 1e9),
        "A": Unit("current", 1.0),
        "mA": Unit("current", 1e-3),
        "uA": Unit("current", 1e-6),
        "V": Unit("voltage", 1.0),
        "mV": Unit("voltage", 1e-3),
        "Ah": Unit("charge", 3600.0),
        "mAh": Unit("charge", 3.6),
        "Hz": Unit("frequency", 1.0),
        "kHz": Unit("frequency", 1e3),
        "1": Unit("number", 1.0),
        "%": Unit("number", 0.01),
    }
)


def _known_unit(unit: str) -> str:
    if unit not in UNITS:
        alike = [known for known in UNITS if known.casefold() == unit.casefold()]
        raise ValueError(
            f"unknown unit; did you mean {alike[0]!r}?" if alike else unknown("unit", unit, UNITS)
        )
    return unit


def _usable(trust: Any) -> Any:
    if isinstance(trust, str) and trust[:1] == "F":
        raise ValueError("F is a number that is not to be used; take one from another source, A to E")
    return trust


def _a_reading(verified: Any) -> Any:
    if verified is not True and verified is not False and verified != "second-hand":
        raise ValueError('has to be true, false or "second-hand"')
    return verified


Text = Annotated[str, Field(strict=True, min_length=1, pattern=r"\S")]
How = Literal["measured", "recomputed", "derived", "datasheet", "assumed"]
Trust = Annotated[str, Field(strict=True, pattern=r"^[A-E][+-]?$"), BeforeValidator(_usable)]
Verified = Annotated[bool | Literal["second-hand"], BeforeValidator(_a_reading)]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Provenance(BaseModel):
    """What a file may say once for all of its numbers (its table ``default``); each number may differ.

    Args:
        source: the name of a citation in the file's table ``sources``.
        how: ``measured``; ``recomputed`` from published raw data; ``derived`` from numbers of the source;
            from a ``datasheet``; or ``assumed``, where nobody has published one.
        trust: A (best) to E: quality of the measurement, number of devices, how directly it was read.
        verified: whether the number, or what it was derived from, was read in the source itself;
            ``"second-hand"`` where it was read in what quotes the source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Text | None = None
    how: How | None = None
    trust: Trust | None = None
    verified: Verified | None = None


class Quantity(BaseModel):
    """A number with its unit and where it is from; the last four are as in :class:`Provenance`.

    Args:
        value: 0 or more, in ``unit``.
        unit: one of :data:`UNITS`.
        range: lowest and highest value that is to be expected, in ``unit``; contains the value.
        where: the table or file in the source, and how the number comes from it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Number
    unit: Annotated[str, Field(strict=True), AfterValidator(_known_unit)]
    range: tuple[Number, Number] | None = None
    where: Text | None = None
    source: Text
    how: How
    trust: Trust
    verified: Verified

    @model_validator(mode="after")
    def _range_contains_the_value(self) -> Self:
        if self.range is not None and not self.range[0] <= self.value <= self.range[1]:
            low, high = self.range
            raise ValueError(f"the range {low:g} to {high:g} has to contain the value, {self.value:g}")
        return self

    @property
    def si(self) -> float:
        """The value in SI units: W, J/bit, J, s, bit/s, MAC, MAC/s, B/s, B, A, V, C, Hz or 1."""
        return UNITS[self.unit].to_si(self.value)

    @property
    def si_range(self) -> tuple[float, float] | None:
        """The range in the same units."""
        if self.range is None:
            return None
        low, high = (UNITS[self.unit].to_si(bound) for bound in self.range)
        return low, high

    @property
    def dimension(self) -> str:
        """What it measures."""
        return UNITS[self.unit].dimension

    @property
    def citation(self) -> str:
        """The source as its file names it, and where in it."""
        return self.source if self.where is None else f"{self.source}, {self.where}"

    def __str__(self) -> str:
        """Value, unit and range, for people: ``10 GMAC/s (1.6 to 29)``."""
        unit = {"1": "", "%": "%"}.get(self.unit, f" {self.unit}")
        bounds = "" if self.range is None else f" ({self.range[0]:.6g} to {self.range[1]:.6g})"
        return f"{self.value:.6g}{unit}{bounds}"

    def toml(self) -> str:
        """The quantity as it stands in a file: an inline table, on one line."""
        said = self.model_dump(mode="json", exclude_none=True)
        return "{" + ", ".join(f"{key} = {_toml(value)}" for key, value in said.items()) + "}"


def _toml(value: Any) -> str:
    """A value of JSON in TOML, which writes it alike, but for the character DEL, that it wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def of(dimension: str, *, zero: bool = True, most: float = math.inf) -> AfterValidator:
    """The validator of a key that takes one kind of quantity.

    Args:
        dimension: what it has to measure.
        zero: whether it may be 0.
        most: greatest value, in SI units.
    """
    units = [name for name, unit in UNITS.items() if unit.dimension == dimension]

    def check(quantity: Quantity) -> Quantity:
        if quantity.dimension != dimension:
            raise ValueError(
                f"is a {quantity.dimension}, in {quantity.unit}; has to be a {dimension}, in {_words(units)}"
            )
        if not zero and not quantity.value:
            raise ValueError("has to be more than 0")
        if quantity.si > most:
            raise ValueError(f"is {quantity}; has to be at most {most:g}")
        return quantity

    found: Callable[[Quantity], Quantity] = check
    return AfterValidator(found)


def _words(units: list[str]) -> str:
    return units[0] if len(units) == 1 else f"{', '.join(units[:-1])} or {units[-1]}"
