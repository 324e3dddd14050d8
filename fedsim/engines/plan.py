"""What every engine is given: trained models, samples, devices, a server, and where the events go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DevicePlan", "Engine", "Method", "RunPlan"]


@dataclass(frozen=True)
class Method:
    """One row of the results: a model bundle and the name under which it is measured."""

    name: str
    bundle: Path
    local: bool  #: the whole network runs on the device; no server is needed
    level: int | None = None  #: rate level at which samples are encoded; None is the highest


@dataclass(frozen=True)
class DevicePlan:
    """One device. It takes every ``devices``-th sample, beginning with its own number."""

    client: str
    in_flight: int
    deadline_s: float
    fallback: Path | None  #: bundle of the whole network, to answer what the server does not
    erasure: float = 0.0  #: probability that a packet of a payload is lost on its way
    erasure_seed: int = 0  #: decides which


@dataclass(frozen=True)
class RunPlan:
    """A run, ready to be carried out.

    Args:
        run: name of the run, as it stands in the ledger.
        folder: work folder; each device writes ``events/<client>.jsonl`` in it.
        methods: in the order of the rows.
        samples: safetensors file with the images and labels to stream.
        sample_count: how many there are.
        devices: the fleet.
        workers: threads of the tail server that run the tail.
        batch_size: samples at which the server closes a batch.
        batch_wait_ms: milliseconds after which it closes one that is not full.
    """

    run: str
    folder: Path
    methods: tuple[Method, ...]
    samples: Path
    sample_count: int
    devices: tuple[DevicePlan, ...]
    workers: int
    batch_size: int
    batch_wait_ms: float

    @property
    def events(self) -> Path:
        """Folder of the event files."""
        return self.folder / "events"

    @property
    def total_samples(self) -> int:
        """Samples over all methods."""
        return self.sample_count * len(self.methods)


#: Carries a plan out and calls back with the number of samples finished so far. Returns what went wrong
#: on the way and was mended.
Engine = Callable[[RunPlan, Callable[[int], None]], list[str]]
