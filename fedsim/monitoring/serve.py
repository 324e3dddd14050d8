"""Serves the metrics of a run over HTTP, as Prometheus asks for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from fedsim.errors import MonitorError
from fedsim.monitoring.following import Following
from fedsim.monitoring.rounds import RoundMetrics
from fedsim.monitoring.samples import SampleMetrics
from fedsim.monitoring.tail import TailMetrics

__all__ = ["RunMetrics", "serving"]


class RunMetrics(Collector):
    """All metrics of a run. They are read when somebody asks; between two scrapes nothing is done.

    ::

        FOLDER/begun                        another text for each launch; need not be there
        FOLDER/events/*.jsonl               what the devices tell
        FOLDER/federation/events/*.jsonl    what the rounds of a federation cost
        FOLDER/federation/rounds/run.json   what they came to

    Args:
        folder: in which the run writes; its files may come later. Another run in it begins from zero.
        server: HOST:PORT of the tail server; None to leave it out.
    """

    def __init__(self, folder: Path, server: str | None = None) -> None:
        self._begun = folder / "begun"
        self._launch: str | None = None
        self._devices = Following(folder / "events")
        self._federation = Following(folder / "federation" / "events")
        self._samples = SampleMetrics()
        self._rounds = RoundMetrics(folder / "federation")
        self._tail = None if server is None else TailMetrics(server)
        self._lock = threading.Lock()  # several may ask at once

    def collect(self) -> Iterator[Metric]:
        """The metrics, of all events until now."""
        with self._lock:
            self._follow()
            found = [*self._samples.collect(), *self._rounds.collect()]
        yield from found
        if self._tail is not None:
            yield from self._tail.collect()

    def _follow(self) -> None:
        launch = self._begun.read_text() if self._begun.exists() else None
        anew, events = self._devices.read()
        if anew or launch != self._launch:
            self._samples, self._launch = SampleMetrics(), launch
        self._samples.add(events)
        _, events = self._federation.read()  # whose files begin anew with each method of a run
        self._samples.add(events)


@contextmanager
def serving(metrics: Collector, host: str, port: int) -> Iterator[int]:
    """Serve metrics inside, in threads of their own; gives the port.

    Args:
        metrics: what is served.
        host: of the address.
        port: likewise; 0 takes a free one.

    Raises:
        MonitorError: the address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise MonitorError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
