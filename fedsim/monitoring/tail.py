"""What a tail server says of itself: the call ``Describe`` of its service."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.rpc import DESCRIBE, DescribeRequest, Description

__all__ = ["TailMetrics"]

_PATIENCE_S = 1.0


class TailMetrics:
    """A tail server's own counts.

    Args:
        server: HOST:PORT; it need not be there yet.
    """

    def __init__(self, server: str) -> None:
        channel = grpc.insecure_channel(server, options=(("grpc.max_reconnect_backoff_ms", 2000),))
        self._describe = channel.unary_unary(DESCRIBE, None, Description.FromString)

    def collect(self) -> Iterator[Metric]:
        """Whether it serves, and what it counts where it does."""
        told = self._told()
        yield GaugeMetricFamily("fedsim_tail_up", "Whether the tail server serves.", told is not None)
        if told is None:
            return
        yield GaugeMetricFamily("fedsim_tail_streams", "Streams that are open.", told.streams)
        waiting = "Samples that it has received and not answered yet."
        yield GaugeMetricFamily("fedsim_tail_waiting", waiting, told.waiting)
        yield CounterMetricFamily("fedsim_tail_answered", "Samples that it has answered.", told.answered)
        refused = "Samples and messages that it has refused."
        yield CounterMetricFamily("fedsim_tail_rejected", refused, told.rejected)

    def _told(self) -> Description | None:
        try:
            told: Description = self._describe(DescribeRequest().SerializeToString(), timeout=_PATIENCE_S)
        except grpc.RpcError:
            return None
        return told
