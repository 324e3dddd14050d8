"""The parts of a device file, made of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from fedsim.calibration import coder
from fedsim.calibration.coder import CHANNELS, SIDES, Way
from fedsim.calibration.ladder import Figure, Ladder
from fedsim.calibration.lines import fit
from fedsim.calibration.power import Watts
from fedsim.calibration.reading import counted, line, median, quantity, seconds
from fedsim.calibration.splits import Stage, Stages
from fedsim.calibration.timing import Timing
from fedsim.hardware.presets import (
    Batched,
    Coder,
    CodingPart,
    Compute,
    Measured,
    Powers,
    Split,
    TransportPart,
)
from fedsim.hardware.quantity import Quantity

__all__ = ["coding", "compute", "network", "powers", "split", "transport"]

#: By what was timed, and its size: symbols, or samples of a batch.
Timings = Mapping[tuple[str, int], Timing]


def compute(ladder: Ladder, timings: Mapping[str, Timing]) -> Compute:
    """The roofline.

    Raises:
        HardwareError: the ladder says nothing of the rate.
    """

    def number(figure: Figure, unit: str) -> Quantity:
        return quantity(figure.value, (figure.low, figure.high), unit, figure.spread, figure.where)

    fitted = ladder.overhead(timings)
    overhead, layer_overhead = line(
        fitted,
        "line through networks of 1 to 8 small convolutions, each with normalisation and activation; they "
        f"lie within {100 * fitted.residual:.2g} % of it",
    )
    return Compute(
        overhead=overhead,
        layer_overhead=layer_overhead,
        rate=number(ladder.rate(timings), "GMAC/s"),
        memory_rate=number(ladder.memory_rate(timings), "GB/s"),
    )


def coding(timings: Timings) -> CodingPart:
    """The entropy coder."""
    coders = {}
    for way, fitted in coder.lines(cast("Mapping[tuple[Way, int], Timing]", timings)).items():
        where = (
            f"line through payloads of {CHANNELS * SIDES[0] ** 2} to {CHANNELS * SIDES[-1] ** 2} symbols in "
            f"{CHANNELS} channels; they lie within {100 * fitted.residual:.2g} % of it"
        )
        fixed, per_symbol = line(fitted, where)
        coders[way] = Coder(fixed=fixed, per_symbol=per_symbol)
    return CodingPart(encode=coders["encode"], decode=coders["decode"])


def transport(timings: Mapping[int, Timing]) -> TransportPart:
    """gRPC, by the bytes of a message."""
    messages = len(next(iter(timings.values())).minima)
    where = (
        f"line through messages of {' and '.join(map(str, timings))} bytes, medians of {messages} each; "
        "there and back between two processes"
    )
    fixed, per_byte = line(fit(timings), where)
    return TransportPart(fixed=fixed, per_byte=per_byte)


def network(stages: Stages, timings: Timings) -> Measured:
    """A network that runs whole on the device."""
    macs = stages.device.macs
    work = counted(macs, "MACs of its operators") if macs else None
    time = seconds(timings["head", 1].minima, stages.of)
    return Measured(model=stages.device.model_id, time=time, work=work)


def split(stages: Stages, timings: Timings) -> Split:
    """A split network, with what there is of its server."""
    served = stages.server is not None
    return Split(
        model=stages.device.model_id,
        head=seconds(timings["head", 1].minima, stages.of),
        encode=seconds(timings["encode", 1].minima, stages.of),
        decode=_batched("decode", stages, timings) if served else None,
        tail=_batched("tail", stages, timings) if served else None,
    )


def powers(watts: Watts) -> Powers:
    """What the machine draws."""
    return Powers(
        idle=median(watts.idle, "W", f"{watts.of}; nothing computed"),
        active=median(watts.active, "W", f"{watts.of}; a convolution computed without a pause"),
    )


def _batched(stage: Stage, stages: Stages, timings: Timings) -> Batched:
    by_size = {size: timing for (which, size), timing in timings.items() if which == stage}
    fitted = fit(by_size)
    where = (
        f"line through batches of {', '.join(map(str, by_size))}; they lie within "
        f"{100 * fitted.residual:.2g} % of it; {stages.of}"
    )
    fixed, each = line(fitted, where)
    return Batched(single=seconds(by_size[1].minima, stages.of), fixed=fixed, each=each)
