"""What became of each sample of the data under one method, apart from time: payload, message, answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.meter import Event

__all__ = ["Material", "materials"]


@dataclass(frozen=True, eq=False)
class Material:
    """The samples of the data, once each: arrays [samples], in the order of their numbers.

    Args:
        rate: rate parameter of the method, where it has one.
        labels: true classes; -1 of a sample without one.
        predictions: what was answered; -1 of what nothing was answered to.
        ideal_bits: NaN where it is not known, or nothing was sent.
        payload_bytes: 0 where nothing was sent.
        frame_bytes: of the whole message, likewise.
        failed: why nothing was answered; empty where something was.
    """

    rate: float | None
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    ideal_bits: NDArray[np.float64]
    payload_bytes: NDArray[np.int64]
    frame_bytes: NDArray[np.int64]
    failed: NDArray[np.object_]


def materials(events: Iterable[Event], samples: int) -> dict[str, Material]:
    """By method, from a run that had each sample once.

    Args:
        events: of the run.
        samples: how many there are, numbered from 0 on.
    """
    found: dict[str, Material] = {}
    for event in events:
        if event.method not in found:
            found[event.method] = Material(
                event.rate,
                np.full(samples, -1),
                np.full(samples, -1),
                np.full(samples, np.nan),
                np.zeros(samples, np.int64),
                np.zeros(samples, np.int64),
                np.full(samples, "", object),
            )
        if event.sample is not None:
            _put(found[event.method], event, event.sample)
    return found


def _put(one: Material, event: Event, sample: int) -> None:
    if event.stage == "send":
        one.payload_bytes[sample] = event.payload_bytes or 0
        one.frame_bytes[sample] = event.frame_bytes or 0
        one.ideal_bits[sample] = np.nan if event.ideal_bits is None else event.ideal_bits
    if event.stage == "total":
        one.labels[sample] = -1 if event.label is None else event.label
        one.predictions[sample] = -1 if event.prediction is None else event.prediction
        if event.outcome == "failed":
            one.failed[sample] = event.detail or "failed"
