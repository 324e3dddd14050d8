"""Numbers with their units and sources, and the text that they are written in."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from fedsim.hardware.kinds import Power, Share, SpreadingFactor
from fedsim.hardware.quantity import UNITS, Quantity

MEASURED: dict[str, Any] = {"source": "a paper", "how": "measured", "trust": "A", "verified": True}
TEXT = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20).filter(
    lambda text: text.strip()
)


def quantity(value: float = 1.0, unit: str = "W", **more: Any) -> Quantity:
    return Quantity.model_validate({"value": value, "unit": unit, **MEASURED, **more})


class Holder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    power: Power | None = None
    share: Share | None = None
    factor: SpreadingFactor | None = None


@st.composite
def quantities(draw: st.DrawFn) -> Quantity:
    finite = st.floats(0, 1e300, allow_nan=False)
    low, value, high = sorted(draw(st.tuples(finite, finite, finite)))
    return quantity(
        value,
        draw(st.sampled_from(sorted(UNITS))),
        range=draw(st.sampled_from([None, (low, high)])),
        where=draw(st.none() | TEXT),
        source=draw(TEXT),
        how=draw(st.sampled_from(["measured", "recomputed", "derived", "datasheet", "assumed"])),
        trust=draw(st.sampled_from("ABCDE")) + draw(st.sampled_from(["", "+", "-"])),
        verified=draw(st.sampled_from([True, False, "second-hand"])),
    )


@given(quantities())
def test_what_is_written_reads_as_it_was(written: Quantity) -> None:
    text = f"number = {written.toml()}"
    assert "\n" not in text
    assert Quantity.model_validate(tomllib.loads(text)["number"]) == written


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_range_contains_the_value(value: float, low: float, high: float) -> None:
    if low <= value <= high:
        assert quantity(value, range=[low, high]).si_range == (low, high)
    else:
        with pytest.raises(ValidationError, match="has to contain the value"):
            quantity(value, range=[low, high])


@pytest.mark.parametrize(
    ("value", "unit", "si"),
    [
        (438.39, "mW/Mbps", 438.39e-9),
        (1, "nJ/bit", 1e-9),
        (2.5, "mW", 0.0025),
        (0.055, "mWh", 0.198),
        (75.9, "ms", 0.0759),
        (5.5, "Mbit/s", 5_500_000),
        (12, "GMAC/s", 12e9),
        (0.1, "uA", 1e-7),
        (2400, "mAh", 8640),
        (125, "kHz", 125_000),
        (1, "%", 0.01),
        (222, "B", 222),
    ],
)
def test_units_in_si(value: float, unit: str, si: float) -> None:
    assert quantity(value, unit).si == pytest.approx(si, rel=1e-15)


def test_as_people_read_it() -> None:
    assert str(quantity(10, "GMAC/s", range=[1.6, 29])) == "10 GMAC/s (1.6 to 29)"
    assert str(quantity(1, "%")) == "1%"
    assert str(quantity(7, "1")) == "7"
    assert quantity(where="Table 4").citation == "a paper, Table 4"
    assert quantity().citation == "a paper"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"unit": "mW/Mbit"}, "did you mean 'mW/Mbps'"),
        ({"unit": "mbit/s"}, "did you mean 'Mbit/s'"),
        ({"unit": "furlong"}, "unknown unit; known are W, mW"),
        ({"trust": "F"}, "not to be used"),
        ({"trust": "F+"}, "not to be used"),
        ({"trust": "A++"}, "should match pattern"),
        ({"trust": ""}, "should match pattern"),
        ({"verified": "yes"}, 'has to be true, false or "second-hand"'),
        ({"verified": 1.5}, 'has to be true, false or "second-hand"'),
        ({"value": -1}, "greater than or equal to 0"),
        ({"value": float("nan")}, "finite"),
        ({"value": True}, "valid number"),
        ({"value": "3"}, "valid number"),
        ({"source": "  "}, "match pattern"),
        ({"how": "guessed"}, "'measured'"),
        ({"range": [1.0]}, "Field required"),
        ({"note": "none"}, "Extra inputs"),
    ],
)
def test_what_a_quantity_may_not_be(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint.replace("+", r"\+")):
        Quantity.model_validate({"value": 1.0, "unit": "W", **MEASURED, **change})


@pytest.mark.parametrize("left_out", ["value", "unit", "source", "how", "trust", "verified"])
def test_nothing_but_range_and_place_may_be_left_out(left_out: str) -> None:
    whole = {"value": 1.0, "unit": "W", **MEASURED}
    del whole[left_out]
    with pytest.raises(ValidationError, match=f"{left_out}\n  Field required"):
        Quantity.model_validate(whole)


@pytest.mark.parametrize(
    ("key", "value", "unit", "complaint"),
    [
        ("power", 3, "s", "is a time, in s; has to be a power, in W, mW or uW"),
        ("share", 0, "1", "has to be more than 0"),
        ("share", 120, "%", "is 120%; has to be at most 1"),
        ("factor", 7.5, "1", "has to be a whole number"),
        ("factor", 13, "1", "a spreading factor is 7 to 12"),
    ],
)
def test_a_key_takes_one_kind_of_quantity(key: str, value: float, unit: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Holder.model_validate({key: quantity(value, unit)})
    assert Holder(power=quantity(0)).power == quantity(0)
