"""What constructors check of their options: one clear error that names option, value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

__all__ = ["real_number", "two_widths", "whole_number"]


def whole_number(option: str, value: object, low: int, high: int | None = None) -> int:
    """``value``, if it is an int of ``low .. high``.

    Raises:
        ValueError: names the option, the value and what is allowed.
    """
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{option} is {value!r}, allowed are whole numbers of {allowed}")
    return value


def real_number(option: str, value: object, fits: Callable[[float], bool], allowed: str) -> float:
    """``value`` as a float, if it is a finite number that ``fits``.

    Args:
        option: its name.
        value: what was given.
        fits: whether a number lies in the range.
        allowed: the range in words, behind "allowed are".

    Raises:
        ValueError: names the option, the value and what is allowed.
    """
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not fits(value)
    ):
        raise ValueError(f"{option} is {value!r}, allowed are {allowed}")
    return float(value)


def two_widths(option: str, widths: object) -> tuple[int, int]:
    """``widths``, if it is a sequence of two whole numbers of at least 1: channels of two hidden layers.

    Raises:
        ValueError: names the option, or its element, the value and what is allowed.
    """
    if not isinstance(widths, Sequence) or isinstance(widths, str) or len(widths) != 2:
        raise ValueError(f"{option} is {widths!r}, allowed are two widths")
    return whole_number(f"{option}[0]", widths[0], 1), whole_number(f"{option}[1]", widths[1], 1)
