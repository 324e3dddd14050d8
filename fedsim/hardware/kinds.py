"""The kinds of quantity that keys of a preset take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from fedsim.hardware.quantity import Quantity, of

__all__ = [
    "BitRate",
    "Charge",
    "CodingRate",
    "ComputeRate",
    "Count",
    "Current",
    "Energy",
    "Fraction",
    "Frequency",
    "MemoryRate",
    "Period",
    "Power",
    "PowerPerRate",
    "Share",
    "Size",
    "SpreadingFactor",
    "Time",
    "Voltage",
    "Work",
]

Power = Annotated[Quantity, of("power")]
PowerPerRate = Annotated[Quantity, of("power per rate")]
Energy = Annotated[Quantity, of("energy")]
Time = Annotated[Quantity, of("time")]
Period = Annotated[Quantity, of("time", zero=False)]
BitRate = Annotated[Quantity, of("bit rate", zero=False)]
Work = Annotated[Quantity, of("work", zero=False)]
ComputeRate = Annotated[Quantity, of("compute rate", zero=False)]
MemoryRate = Annotated[Quantity, of("memory rate", zero=False)]
Size = Annotated[Quantity, of("size", zero=False)]
Current = Annotated[Quantity, of("current")]
Voltage = Annotated[Quantity, of("voltage", zero=False)]
Charge = Annotated[Quantity, of("charge", zero=False)]
Frequency = Annotated[Quantity, of("frequency", zero=False)]
Fraction = Annotated[Quantity, of("number", most=0.999)]
Share = Annotated[Quantity, of("number", zero=False, most=1.0)]


def _whole(quantity: Quantity) -> Quantity:
    if not quantity.si.is_integer():
        raise ValueError(f"is {quantity}; has to be a whole number")
    return quantity


def _spreading_factor(quantity: Quantity) -> Quantity:
    if not 7 <= quantity.si <= 12:
        raise ValueError(f"is {quantity}; a spreading factor is 7 to 12")
    return quantity


Count = Annotated[Quantity, of("number"), AfterValidator(_whole)]
SpreadingFactor = Annotated[Quantity, of("number"), AfterValidator(_whole), AfterValidator(_spreading_factor)]
CodingRate = Annotated[Quantity, of("number", zero=False, most=4), AfterValidator(_whole)]
