"""Links as the simulator knows them: who is in which cell, and what a message costs there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge.link.spec import Direction, LinkSpec
from fedsim.simulator.fleet import Cell

__all__ = ["Place", "Transfers", "placed", "transfers"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Numbers of the cells of one device."""

    up: int
    down: int


@dataclass(frozen=True, eq=False)
class Transfers:
    """What messages are to the simulator, [messages].

    Args:
        bits: on the link, headers and repeated packets included.
        delay_s: behind the link's queue.
        wire_bytes: the same in whole bytes, without what is repeated.
    """

    bits: Floats
    delay_s: Floats
    wire_bytes: NDArray[np.int64]


def placed(links: Sequence[tuple[LinkSpec, int]]) -> tuple[list[Cell], list[Place]]:
    """The cells of a fleet, and where each device is.

    Args:
        links: each with the number of devices that share it, or have one like it alone.

    Returns:
        the cells, and a place for each device, link by link.
    """
    cells: list[Cell] = []
    places: list[Place] = []
    for spec, devices in links:
        alone = spec.sharing == "alone"
        for _ in range(devices if alone else 1):
            here = Place(len(cells), len(cells) + 1)
            cells += [_cell(spec, spec.up), _cell(spec, spec.down)]
            places += [here] * (1 if alone else devices)
    return cells, places


def transfers(
    spec: LinkSpec, direction: Direction, stream_bytes: ArrayLike, generator: np.random.Generator
) -> Transfers:
    """What messages cost in one direction of a link.

    A packet that is lost is sent again at once, so that n packets take n / (1 - loss) transmissions in the
    mean. A message is there with the last of its packets, whose delays are uniform. One that leaves k packets
    ahead of the last is that much ahead of it, at the mean rate of the link, and makes the message later only
    if it is slower by more; what others send between them is left out.

    Args:
        spec: the link.
        direction: which of its two.
        stream_bytes: of each message, at least 0.
        generator: draws losses and jitter.
    """
    size = np.asarray(stream_bytes, np.int64)
    packets = -(-size // spec.segment)
    wire = size + packets * spec.header
    bits = 8.0 * wire
    if direction.loss:
        again = generator.negative_binomial(np.maximum(packets, 1), 1 - direction.loss) * (packets > 0)
        bits += again * np.divide(bits, packets, out=np.zeros_like(bits), where=packets > 0)
    delay = np.full(size.shape, direction.delay_s)
    if direction.jitter_s:
        spacing_s = 8 * (spec.segment + spec.header) / direction.mean_bps
        delay += _slowest(direction.jitter_s, spacing_s, np.maximum(packets, 1), generator)
    return Transfers(bits, delay, wire)


def _slowest(
    jitter_s: float, spacing_s: float, packets: NDArray[np.int64], generator: np.random.Generator
) -> Floats:
    """By how much more than the delay the last packet is late: the largest of ``u_k - k * spacing_s``.

    Args:
        jitter_s: the u_k are uniform from minus to plus this.
        spacing_s: from one packet's leaving to the next one's.
        packets: how many k there are, of each message.
        generator: draws them.
    """
    latest = np.full(packets.shape, -jitter_s)
    for ahead in range(int(packets.max(initial=0))):
        head_start = ahead * spacing_s
        if head_start >= 2 * jitter_s:
            break  # even the slowest is there ahead of the quickest of the last
        has = packets > ahead
        found = jitter_s * (2 * generator.random(int(has.sum())) - 1) - head_start
        latest[has] = np.maximum(latest[has], found)
    return latest


def _cell(spec: LinkSpec, direction: Direction) -> Cell:
    rate = direction.trace if direction.trace is not None else direction.mean_bps
    return Cell(rate, "processor" if spec.sharing == "alone" else spec.sharing)
