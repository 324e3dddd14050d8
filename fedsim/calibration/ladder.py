"""The roofline of this machine: a ladder of layers as they occur in small networks, one image at a time.

- ``overhead`` and ``layer overhead``: a line through the times of networks that compute next to nothing, of
  one to eight convolutions, each with its normalisation and activation.
- ``rate``: MACs over time, less what a call takes anyway; the median of the dense convolutions, with the
  range over *all* layers, since that is by what one network differs from the next. A layer that does not take
  twice as long as a call says nothing of a rate, and is left out.
- ``memory rate``: bytes read and written over time, likewise, by what multiplies next to nothing:
  activations, normalisations and poolings of maps of 0.1 to 1 MB. The median, with the range over all of
  them, which is wide: a pooling takes many times as long as an activation of the same bytes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from edge.backbones.normalise import Normalise
from fedsim.calibration.lines import Line, fit
from fedsim.calibration.timing import Run, Timing, spread, timed
from fedsim.errors import HardwareError
from fedsim.hardware.compute import Layer
from fedsim.hardware.macs import layers_of

__all__ = ["Figure", "Ladder", "Rung", "rungs"]

_DEPTHS = (1, 2, 4, 8)  # convolutions of the networks that compute next to nothing
#: What moves bytes and multiplies next to nothing, by the channels of its map.
_MOVERS: Final[Mapping[str, Callable[[int], nn.Module]]] = {
    "activation": lambda channels: nn.ReLU(),
    "normalisation": nn.BatchNorm2d,
    "pooling": lambda channels: nn.MaxPool2d(2),
}
_MAPS = ((32, 28), (64, 32), (64, 64))  # channels and side: 0.1, 0.26 and 1 MB


@dataclass(frozen=True)
class Rung:
    """A network that is run for its time.

    Args:
        name: for people.
        network: in evaluation mode.
        shape: of its input, one sample.
        dense: whether it is what a rate is the median of.
    """

    name: str
    network: nn.Module
    shape: tuple[int, ...]
    dense: bool = False


@dataclass(frozen=True)
class Figure:
    """A rate in SI units, with the range to expect and the median spread of the times behind it."""

    value: float
    low: float
    high: float
    spread: float
    where: str


def rungs() -> list[Rung]:
    """Layers of residual networks at 32 pixels, of FedAvg's network, of MobileNets; with fresh weights."""
    return [
        _convolution(1, 32, 28, kernel=5),
        _convolution(3, 64, 32),
        _convolution(32, 32, 28),
        _convolution(64, 64, 7),
        _convolution(64, 64, 14),
        _convolution(64, 64, 32),
        _convolution(128, 128, 16),
        _convolution(256, 256, 8),
        _convolution(512, 512, 4),
        _convolution(32, 64, 14, kernel=5),
        _convolution(24, 96, 28, kernel=1),
        _convolution(64, 128, 28, kernel=1),
        _convolution(192, 64, 14, kernel=1),
        _convolution(32, 32, 56, groups=32),
        _convolution(96, 96, 28, groups=96),
        _convolution(192, 192, 14, groups=192),
        _linear(3136, 512),
        _linear(512, 512),
    ]


class Ladder:
    """What is run, and what follows from its times."""

    def __init__(self) -> None:
        self._layers = rungs()
        self._maps = [
            Rung(f"{name}, {channels} at {side}x{side}", make(channels).eval(), (channels, side, side))
            for name, make in _MOVERS.items()
            for channels, side in _MAPS
        ]
        self._small = {depth: _small(depth) for depth in _DEPTHS}
        self._call = Rung("a convolution's call", nn.Conv2d(1, 1, 1), (1, 1, 1))
        self._activation = Rung("an activation's call", nn.ReLU(), (1, 1, 1))
        #: All that is run, by name.
        self.rungs = {
            rung.name: rung
            for rung in (*self._layers, *self._maps, *self._small.values(), self._call, self._activation)
        }
        self._macs = {rung.name: sum(layer.macs for layer in _work(rung)) for rung in self._layers}

    def subjects(self) -> dict[str, Run]:
        """What to measure, by name."""
        return {name: _run(rung) for name, rung in self.rungs.items()}

    @property
    def densest(self) -> Run:
        """The layer that computes most: what a processor is to be kept busy with."""
        return _run(max(self._layers, key=lambda rung: self._macs[rung.name]))

    def overhead(self, timings: Mapping[str, Timing]) -> Line:
        """Of one inference, and of each of its layers."""
        return fit({len(_work(rung)): timings[rung.name] for rung in self._small.values()})

    def rate(self, timings: Mapping[str, Timing]) -> Figure:
        """MAC/s.

        Raises:
            HardwareError: no dense convolution takes twice as long as a call.
        """
        call = timings[self._call.name].seconds
        usable = [rung for rung in self._layers if timings[rung.name].seconds >= 2 * call]
        rates = {rung: self._macs[rung.name] / (timings[rung.name].seconds - call) for rung in usable}
        dense = [rate for rung, rate in rates.items() if rung.dense]
        if not dense:
            raise HardwareError(
                f"cannot calibrate: no layer takes twice as long as a call, {1e6 * call:.3g} us, so that "
                "this machine's rate cannot be told; repeat it while the machine is not busy"
            )
        slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        where = (
            f"median of {len(dense)} dense convolutions; range: {len(rates)} layers, from {slow.name} "
            f"to {fast.name}"
        )
        worst = statistics.median(spread(timings[rung.name].minima) for rung in rates)
        return Figure(statistics.median(dense), rates[slow], rates[fast], worst, where)

    def memory_rate(self, timings: Mapping[str, Timing]) -> Figure:
        """Bytes a second.

        Raises:
            HardwareError: the smallest map takes no longer than a call.
        """
        call = timings[self._activation.name].seconds
        times = [timings[rung.name] for rung in self._maps]
        if min(timing.seconds for timing in times) <= call:
            raise HardwareError(
                "cannot calibrate: an activation of 0.1 MB takes no longer than one of 4 bytes, so that the "
                "rate of this machine's memory cannot be told; repeat it while the machine is not busy"
            )
        rates = {
            rung.name: sum(layer.bytes for layer in _work(rung)) / (timing.seconds - call)
            for rung, timing in zip(self._maps, times, strict=True)
        }
        slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        where = f"median of activations, normalisations and poolings; range: from {slow} to {fast}"
        value, worst = statistics.median(rates.values()), statistics.median(spread(t.minima) for t in times)
        return Figure(value, rates[slow], rates[fast], worst, where)


def _convolution(inputs: int, outputs: int, side: int, kernel: int = 3, groups: int = 1) -> Rung:
    dense = groups == 1 and kernel > 1
    name = f"{'depthwise ' * (groups > 1)}{kernel}x{kernel}, {inputs} to {outputs} at {side}x{side}"
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return Rung(name, layer, (inputs, side, side), dense)


def _linear(inputs: int, outputs: int) -> Rung:
    return Rung(f"linear, {inputs} to {outputs}", nn.Linear(inputs, outputs), (inputs,))


def _small(depth: int) -> Rung:
    blocks = [
        layer
        for _ in range(depth)
        for layer in (nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU())
    ]
    network = nn.Sequential(Normalise([0.5] * 3, [0.5] * 3), *blocks)
    return Rung(f"{depth} small convolutions", network.eval(), (3, 4, 4))


def _work(rung: Rung) -> list[Layer]:
    return layers_of(rung.network, rung.shape)


def _run(rung: Rung) -> Run:
    batch = torch.rand(1, *rung.shape, generator=torch.Generator().manual_seed(0))
    network = rung.network

    @torch.inference_mode()
    def work(_: int) -> None:
        network(batch)

    return timed(work)
