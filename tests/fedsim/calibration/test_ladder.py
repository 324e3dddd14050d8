"""The ladder: what follows from times that a machine of known rates would have, and its own layers."""

import numpy as np
import pytest

from fedsim.calibration.ladder import Ladder, rungs
from fedsim.calibration.timing import Timing
from fedsim.errors import HardwareError
from fedsim.hardware.macs import layers_of

OVERHEAD_S, CALL_S, MACS_PER_S, BYTES_PER_S = 50e-6, 20e-6, 10e9, 8e9


def times(ladder: Ladder, macs_per_s: float = MACS_PER_S) -> dict[str, Timing]:
    """Of a machine that multiplies, or moves the bytes of what has nothing to multiply."""
    found = {}
    for name, rung in ladder.rungs.items():
        layers = layers_of(rung.network, rung.shape)
        macs, moved = sum(one.macs for one in layers), sum(one.bytes for one in layers)
        if name.endswith("small convolutions"):
            seconds = OVERHEAD_S + len(layers) * CALL_S
        elif name.endswith("call"):
            seconds = CALL_S
        else:
            seconds = CALL_S + (macs / macs_per_s if macs else moved / BYTES_PER_S)
        found[name] = Timing(np.full(3, seconds))
    return found


def test_rates_of_a_machine_are_found_again() -> None:
    ladder = Ladder()
    rate, memory_rate, overhead = (
        find(times(ladder)) for find in (ladder.rate, ladder.memory_rate, ladder.overhead)
    )
    assert (rate.value, rate.low, rate.high) == pytest.approx([MACS_PER_S] * 3)
    assert (memory_rate.value, memory_rate.low, memory_rate.high) == pytest.approx([BYTES_PER_S] * 3)
    assert (overhead.fixed, overhead.each) == pytest.approx((OVERHEAD_S, CALL_S))
    assert rate.spread == memory_rate.spread == 0


def test_a_layer_that_is_over_as_soon_as_a_call_says_nothing_of_the_rate() -> None:
    ladder = Ladder()
    told = ladder.rate(times(ladder)).where
    assert told.startswith("median of 10 dense convolutions; range: ")
    fewer = ladder.rate(times(ladder, 1e12)).where
    assert fewer.startswith("median of 4 dense convolutions; range: 4 layers")
    with pytest.raises(HardwareError, match="no layer takes twice as long as a call, 20 us"):
        ladder.rate(times(ladder, 1e15))
    known = times(ladder)
    known["an activation's call"] = Timing(np.full(3, 1.0))
    with pytest.raises(HardwareError, match="takes no longer than one of 4 bytes"):
        ladder.memory_rate(known)


def test_the_range_is_over_all_layers_and_the_rate_of_the_dense_ones() -> None:
    ladder = Ladder()
    known = times(ladder)
    name = next(name for name in known if name.startswith("depthwise 3x3, 96"))
    known[name] = Timing(known[name].minima * 20)
    figure = ladder.rate(known)
    assert figure.value == pytest.approx(MACS_PER_S)
    assert figure.low < MACS_PER_S / 19
    assert f"from {name} to " in figure.where


def test_layers_are_of_all_kinds_and_run() -> None:
    kinds = {rung.name.split(",")[0] for rung in rungs()}
    assert kinds == {"3x3", "5x5", "1x1", "depthwise 3x3", "linear"}
    ladder = Ladder()
    assert all(run(0) > 0 for run in ladder.subjects().values())
    assert ladder.densest(0) > 0
