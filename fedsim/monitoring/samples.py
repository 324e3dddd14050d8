"""What the events of a run come to so far: samples, bytes, latencies, accuracy."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from edge.meter import STAGES, Event

__all__ = ["BOUNDS_S", "SampleMetrics"]

#: Upper bounds of the latencies' buckets, s: five in a decade, from 0.1 ms to 100 s.
BOUNDS_S: Final = tuple(float(f"{10 ** (step / 5 - 4):.3g}") for step in range(31))
_BYTES: Final = {
    "payload": "payload_bytes",
    "frame": "frame_bytes",
    "wire": "wire_bytes",
    "reply": "reply_wire_bytes",
}


class SampleMetrics:
    """Counts events. What several files tell of a client comes together."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, int], list[Event]] = {}  # stages of samples that have not ended yet
        self._ended: Counter[tuple[str, str, str]] = Counter()  # method, client, outcome
        self._labelled: Counter[str] = Counter()  # method
        self._right: Counter[str] = Counter()
        self._bytes: Counter[tuple[str, str, str, str]] = Counter()  # method, client, stage, level
        self._lasted: dict[tuple[str, str], list[int]] = {}  # method, stage: of each bucket
        self._seconds: Counter[tuple[str, str]] = Counter()

    def add(self, events: Iterable[Event]) -> None:
        """Count these, too."""
        for event in events:
            if event.sample is not None and event.stage in STAGES:
                stages = self._open.setdefault((event.method, event.client, event.sample), [])
                stages.append(event)
                if event.outcome is not None:
                    self._end(event, event.outcome)
            if event.stage != "stream":  # whose bytes are those of its samples once more
                for level, name in _BYTES.items():
                    if (number := getattr(event, name)) is not None:
                        self._bytes[event.method, event.client, event.stage, level] += number

    def _end(self, event: Event, outcome: str) -> None:
        self._ended[event.method, event.client, outcome] += 1
        if event.label is not None:
            self._labelled[event.method] += 1
            self._right[event.method] += event.prediction == event.label
        stages = self._open.pop((event.method, event.client, event.sample or 0), [])
        for one in stages if outcome != "failed" else ():
            buckets = self._lasted.setdefault((one.method, one.stage), [0] * (len(BOUNDS_S) + 1))
            buckets[bisect_left(BOUNDS_S, one.duration_s)] += 1
            self._seconds[one.method, one.stage] += one.duration_s  # type: ignore[assignment]

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        samples = CounterMetricFamily(
            "fedsim_samples", "Samples that have ended.", labels=("method", "client", "outcome")
        )
        for labels, number in self._ended.items():
            samples.add_metric(labels, number)
        yield samples
        accuracy = GaugeMetricFamily(
            "fedsim_accuracy",
            "Share of the samples so far that were told rightly; one that failed was not.",
            labels=("method",),
        )
        for method, number in self._labelled.items():
            accuracy.add_metric([method], self._right[method] / number)
        yield accuracy
        sent = CounterMetricFamily(
            "fedsim_bytes",
            "Bytes to the server: payload, frame, wire; reply: bytes of the wire from it. "
            "Of rounds the stage tells the direction.",
            labels=("method", "client", "stage", "level"),
        )
        for key, number in self._bytes.items():
            sent.add_metric(key, number)
        yield sent
        stages = HistogramMetricFamily(
            "fedsim_stage_seconds",
            "How long stages of samples lasted that did not fail; total is all of a sample.",
            labels=("method", "stage"),
        )
        for (method, stage), counts in self._lasted.items():
            reached, buckets = 0, []
            for bound, count in zip((*BOUNDS_S, float("inf")), counts, strict=True):
                reached += count
                buckets.append(("+Inf" if bound == float("inf") else repr(bound), reached))
            stages.add_metric([method, stage], buckets, self._seconds[method, stage])
        yield stages
