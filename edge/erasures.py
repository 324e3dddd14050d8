"""Losses on the way: which part of a payload arrives where packets are erased and not sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from edge.bottlenecks.base import Bottleneck
from edge.bottlenecks.options import whole_number

__all__ = ["Packetised", "erased"]


@runtime_checkable
class Packetised(Protocol):
    """A bottleneck whose payloads are packets that decode without each other."""

    def packets(self, payload: bytes) -> list[bytes]:
        """The packets of a payload; an erased one is empty."""

    def assemble(self, packets: Sequence[bytes | None]) -> bytes:
        """The payload of these packets, where None has been erased."""


def erased(
    bottleneck: Bottleneck,
    payload: bytes,
    probability: float,
    generator: np.random.Generator,
    packets: int = 4,
) -> bytes | None:
    """What arrives of a payload where each packet is erased, alone, with this probability.

    A :class:`Packetised` bottleneck loses just these packets. Any other's payload travels in pieces of
    near-equal size, and with the first that is erased all behind it is lost, too: an entropy-coded
    stream cannot go on behind a gap. What is returned goes through ``decode``; where that raises a
    :class:`~edge.bottlenecks.base.PayloadError` the sample is lost. Behind its cut a sequential stream
    may also decode, without a sign of it, to symbols that nobody sent; the answer then counts.

    Args:
        bottleneck: made the payload.
        probability: 0 to 1.
        generator: draws one number a packet.
        packets: pieces of a payload (fewer if it has fewer bytes) that does not bring its own packets.

    Returns:
        the payload that arrives, or None where nothing does.

    Raises:
        ValueError: a probability beyond 0 to 1, or less than one packet.
        PayloadError: not a payload of this bottleneck.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability!r}, allowed are 0 to 1")
    whole_number("packets", packets, 1)
    if isinstance(bottleneck, Packetised):
        sent = bottleneck.packets(payload)
        lost = generator.random(len(sent)) < probability
        left = [None if gone else packet for gone, packet in zip(lost, sent, strict=True)]
        return bottleneck.assemble(left) if any(left) else None
    count = max(1, min(packets, len(payload)))
    lost = generator.random(count) < probability
    arriving = int(lost.argmax()) if lost.any() else count
    return payload[: arriving * len(payload) // count] or None
