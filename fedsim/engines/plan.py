"""What every engine is given: trained models, samples, devices, a server, and where the events go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.link import LinkSpec
from fedsim.errors import EngineError
from fedsim.hardware.models import AnyRadio
from fedsim.hardware.presets import Device
from fedsim.simulator.arrivals import Arrivals
from fedsim.simulator.availability import Availability

__all__ = ["DevicePlan", "Engine", "GroupPlan", "Method", "RunPlan"]


@dataclass(frozen=True)
class Method:
    """One row of the results: a model bundle and the name under which it is measured."""

    name: str
    bundle: Path
    local: bool  #: the whole network runs on the device; no server is needed
    level: int | None = None  #: rate level at which samples are encoded; None is the highest


@dataclass(frozen=True)
class DevicePlan:
    """One device. It takes every ``devices``-th sample, beginning with its own number.

    ``pace`` has, for methods by their names, what the head and the encoder of a sample take on the device
    that this one stands for [s]; None for the encoder of a method that is ``local``. They last no shorter.
    """

    client: str
    in_flight: int
    deadline_s: float
    fallback: Path | None  #: bundle of the whole network, to answer what the server does not
    erasure: float = 0.0  #: probability that a packet of a payload is lost on its way
    erasure_seed: int = 0  #: decides which
    schedule: Path | None = None  #: when its samples are due, anew for each method: :mod:`edge.schedule`
    pace: Mapping[str, tuple[float, float | None]] | None = None
    cell: str | None = None  #: the link between it and the server, shared with all that name the same


@dataclass(frozen=True)
class GroupPlan:
    """Devices that are alike, for an engine in virtual time.

    Args:
        count: how many.
        in_flight: most samples of a device without an answer.
        deadline_s: of every sample.
        arrivals: when the samples of each are due.
        device: what they are; None for this machine.
        cell: the link between them and the server; None where there is none.
        radio: their end of the link; None where nothing is to be said of its energy.
        availability: when each is there; None for always.
        battery_j: what each lives on; None for the mains.
        erasure: probability that a packet of a payload is lost on its way.
    """

    count: int
    in_flight: int
    deadline_s: float
    arrivals: Arrivals
    device: Device | None = None
    cell: str | None = None
    radio: AnyRadio | None = None
    availability: Availability | None = None
    battery_j: float | None = None
    erasure: float = 0.0


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
        cells: links by name. A device that names none is right beside the server.
        seed: of the links' jitter, loss and contention, and of all that is drawn in virtual time.
        groups: the fleet, in the place of ``devices``, for an engine in virtual time.
        server: what the tail server is, in virtual time; None for this machine.
        duration_s: how long the fleet works, in virtual time; None until each sample has been told once.

    Raises:
        EngineError: a device names a cell or paces a method that there is not, or no file can be called
            like a cell.
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
    cells: Mapping[str, LinkSpec] = field(default_factory=dict)
    seed: int = 0
    groups: tuple[GroupPlan, ...] = ()
    server: Device | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        for name in self.cells:
            if not name or Path(name).name != name:
                raise EngineError(f"a cell is called {name!r}; a file has to be called so, too")
        methods = [method.name for method in self.methods]
        for device in self.devices:
            if device.cell is not None and device.cell not in self.cells:
                there_are = ", ".join(self.cells) or "none"
                raise EngineError(f"{device.client}: a cell {device.cell!r}; there are {there_are}")
            for name in device.pace or ():
                if name not in methods:
                    raise EngineError(
                        f"{device.client}: a pace of the method {name!r}; there are {', '.join(methods)}"
                    )

    @property
    def events(self) -> Path:
        """Folder of the event files."""
        return self.folder / "events"

    @property
    def links(self) -> Path:
        """Folder of what each cell has carried: ``<name>.json``."""
        return self.folder / "links"

    @property
    def total_samples(self) -> int:
        """Samples over all methods."""
        return self.sample_count * len(self.methods)


#: Carries a plan out and calls back with the number of samples finished so far. Returns what is to be known
#: of the run: what went wrong and was mended, or what was predicted from what.
Engine = Callable[[RunPlan, Callable[[int], None]], list[str]]
