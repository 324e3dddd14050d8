"""The entropy coder of this machine: what a payload takes, and what each symbol adds.

Symbols are drawn from the tables under which they are coded, those of Laplacian codes of different widths in
24 channels, as learned codes have them: some say much and some next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge.coding import EntropyCoder, FrequencyTables
from fedsim.calibration.lines import Line, fit
from fedsim.calibration.timing import Run, Timing, timed

__all__ = ["CHANNELS", "SIDES", "WAYS", "Way", "lines", "subjects"]

Way = Literal["encode", "decode"]
WAYS: Final[tuple[Way, ...]] = ("encode", "decode")
CHANNELS: Final = 24
#: Sides of the maps whose symbols are coded: 24 to 18,816 symbols in all.
SIDES: Final = (1, 2, 4, 7, 14, 28)
_REACH = 40  # symbols on either side of 0
_PAYLOADS = 4  # of each size


def subjects() -> dict[tuple[Way, int], Run]:
    """What to measure, by direction and number of symbols."""
    generator = np.random.default_rng(0)
    values = np.arange(-_REACH, _REACH + 1)
    widths = np.geomspace(0.2, 5.0, CHANNELS)
    probabilities = [_laplacian(values, width) for width in widths]
    coder = EntropyCoder(FrequencyTables.from_probabilities(probabilities, [-_REACH] * CHANNELS))
    found: dict[tuple[Way, int], Run] = {}
    for side in SIDES:
        count = side * side
        symbols = [
            np.stack([generator.choice(values, count, p=p) for p in probabilities]).astype(np.int32)
            for _ in range(_PAYLOADS)
        ]
        found["encode", CHANNELS * count] = _encoding(coder, symbols)
        found["decode", CHANNELS * count] = _decoding(coder, [coder.encode(one) for one in symbols], count)
    return found


def lines(timings: Mapping[tuple[Way, int], Timing]) -> dict[Way, Line]:
    """The time of a payload by its symbols, for either direction."""
    return {
        way: fit({count: timing for (which, count), timing in timings.items() if which == way})
        for way in WAYS
    }


def _laplacian(values: NDArray[np.int64], width: float) -> NDArray[np.float64]:
    mass = np.exp(-np.abs(values) / width)
    return np.asarray(mass / mass.sum())


def _encoding(coder: EntropyCoder, symbols: list[NDArray[np.int32]]) -> Run:
    return timed(lambda number: coder.encode(symbols[number % _PAYLOADS]))


def _decoding(coder: EntropyCoder, payloads: list[bytes], count: int) -> Run:
    return timed(lambda number: coder.decode(payloads[number % _PAYLOADS], count))
