"""The sections of a scenario file, each a value that cannot be changed, with what its keys may hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fedsim import data
from fedsim.scenario_problems import unknown

__all__ = [
    "ENGINES",
    "LOCAL",
    "OF_THE_RECIPE",
    "ArrivalsSection",
    "AvailabilitySection",
    "Baseline",
    "BatchSection",
    "BottleneckSection",
    "DataSection",
    "Engine",
    "EngineInfo",
    "FleetGroup",
    "ModelSection",
    "Name",
    "Options",
    "PartitionSection",
    "Positive",
    "Section",
    "Seed",
    "ServerSection",
    "TrainingSection",
    "label_of",
]


@dataclass(frozen=True)
class EngineInfo:
    """What is known of an engine before it is loaded."""

    module: str
    title: str  #: one line for people
    most_devices: int  #: devices that one run may have
    virtual: bool = False  #: time, devices, radios and batteries are models
    paced: bool = False  #: stages take as long as on the devices that are named
    most_failed: float = 1.0  #: share of the samples that may fail, where the scenario does not say


#: Engines by name.
ENGINES = {
    "processes": EngineInfo(
        module="fedsim.engines.processes",
        title="A tail server process and a process for each device, at most 64, on loopback.",
        most_devices=64,
        paced=True,
    ),
    "inprocess": EngineInfo(
        module="fedsim.engines.inprocess",
        title="Both halves of each model in one process: real payloads and frames, but no link.",
        most_devices=1000,
    ),
    "virtual": EngineInfo(
        module="fedsim.engines.virtual",
        title="Real payloads, made once; devices, links, radios, batteries and the server in virtual time.",
        most_devices=100_000,
        virtual=True,
        paced=True,
    ),
    "containers": EngineInfo(
        module="fedsim.engines.containers",
        title="The same programs in containers, which docker compose starts (docs/containers.md).",
        most_devices=1000,
        paced=True,
        most_failed=0.0,
    ),
}
#: The baseline that runs the whole network on the device.
LOCAL = "local"
#: Keys of the training whose default is the recipe's.
OF_THE_RECIPE = ("epochs", "learning_rates")
#: Options that set the rate of a codec without learning, for plots and labels.
_RATE_OPTIONS = ("quality", "bits")


def _known_data(name: str) -> str:
    if name not in data.available():
        raise ValueError(unknown("data set", name, data.available()))
    return name


def _known_engine(name: str) -> str:
    if name not in ENGINES:
        raise ValueError(unknown("engine", name, ENGINES))
    return name


Level = Annotated[int, Field(strict=True, ge=0, le=1000)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
CellName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)]
Engine = Annotated[str, AfterValidator(_known_engine)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]


class Section(BaseModel):
    """Frozen; a key that it does not have is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(Section):
    """A name, and beside it the options that only what is named knows; they are checked against it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        """What stands beside the keys that all have."""
        return dict(self.model_extra or {})


class _Options(Options):
    """A bottleneck, with arguments for its constructor."""

    name: Name

    @property
    def rate(self) -> float | None:
        """The option that sets the rate (quality, bits), where one is given."""
        return next((float(self.options[key]) for key in _RATE_OPTIONS if key in self.options), None)


class PartitionSection(Options):
    """Who holds what in a federation: a kind of :func:`fedsim.data.partitions.available`, and its options."""

    kind: Name


class DataSection(Section):
    """The data set, by a name of :func:`fedsim.data.available`.

    ``validation`` is the share of the training set, the same of each class, that takes the place of the
    test set: nothing is trained on it, and models may be chosen by it. ``partition`` shares the training
    set out to the clients of a federation, each of which keeps the share ``personal_test`` of its samples
    for a test of its own.
    """

    name: Annotated[str, AfterValidator(_known_data)]
    validation: Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)] | None = None
    partition: PartitionSection | None = None
    personal_test: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] | None = None

    @property
    def remark(self) -> str | None:
        """What is to be known of results on this data."""
        if self.validation is None:
            return None
        return (
            f"tested on {self.validation:.0%} of the training set, kept out of training; not on the test set"
        )


class BottleneckSection(_Options):
    """What stands at the cut, and the options of its constructor.

    ``beta`` is the weight of the rate in training, in units of distortion a bit: a bottleneck whose rate
    is learned needs it, any other has none.
    """

    beta: NotNegative | None = None

    @property
    def rate(self) -> float | None:
        """``beta`` or, of a bottleneck without learning, the option that sets the rate."""
        return super().rate if self.beta is None else self.beta


class ModelSection(Section):
    """The network, and where it is cut.

    ``cut`` names the layer behind whose output the server goes on; ``entry`` the layer at whose output
    the device's part ends. What lies between them the bottleneck replaces; by default nothing does.
    ``levels`` are the rate levels that get a row, by default all; ``weights`` a file with those of the
    uncut network, which is then not trained.
    """

    backbone: Name
    backbone_arguments: dict[str, Any] = {}
    cut: Name
    entry: Name | None = None
    bottleneck: BottleneckSection
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] | None = None
    weights: Name | None = None


class TrainingSection(Section):
    """How teacher and bottleneck are trained.

    ``epochs`` and ``learning_rates`` have an entry for each stage of the recipe. Empty means the recipe's
    own, which take their place.
    """

    recipe: Name = "entropic-student"
    teacher_epochs: Count = 30
    epochs: tuple[Count, ...] = ()
    batch_size: Count = 64
    teacher_learning_rate: Positive = 1e-3
    learning_rates: tuple[Positive, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    threads: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _of_its_recipe(self) -> Self:
        if empty := [key for key in OF_THE_RECIPE if not getattr(self, key)]:
            from fedsim.training import recipes  # noqa: PLC0415  (loads torch)

            if self.recipe in recipes.available():  # what is not, the check tells
                for key in empty:
                    object.__setattr__(self, key, getattr(recipes.find(self.recipe), key))
                    self.model_fields_set.discard(key)  # another recipe has others
        return self


class Baseline(_Options):
    """Another way of running the same task: ``local`` or a bottleneck without learning, with its options."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """Name of the row: the name and, where there are any, the options' values."""
        return label_of([self.name, *map(str, self.options.values())])


class ArrivalsSection(Options):
    """When samples are due: a kind of :func:`fedsim.simulator.arrivals.available`, and its options."""

    kind: Name


class AvailabilitySection(Options):
    """When devices are there: a kind of :func:`fedsim.simulator.availability.available`, and its options."""

    kind: Name


class FleetGroup(Section):
    """Devices that are alike.

    ``device`` is what they are, ``link`` what lies between them and the server, ``radio`` what their end of
    it is, by default the link's own: names of :func:`fedsim.hardware.devices`, ``links`` and ``radios``, or
    paths of files. Without a device they compute as this machine does. What a link's sharing says of it holds
    among the devices of the group, or of all groups that call it by the same ``cell``. ``arrivals`` say when
    samples are due; by default each follows the answer to the one before it. ``availability`` says when
    devices are there, by default always; ``battery_wh`` what they live on, in watt hours, by default the
    device's own battery or, where it has none, the mains.

    ``in_flight`` bounds the unanswered samples of a device; ``fallback`` lets it answer by itself what
    the server has not answered in ``deadline_s`` seconds; ``erasure`` is the probability that a packet of
    a payload is lost on its way.
    """

    count: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    device: Name | None = None
    link: Name | None = None
    radio: Name | None = None
    cell: CellName | None = None
    arrivals: ArrivalsSection | None = None
    availability: AvailabilitySection | None = None
    battery_wh: Positive | None = None
    in_flight: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    deadline_s: Positive = 10.0
    fallback: Annotated[bool, Field(strict=True)] = False
    erasure: Fraction = 0.0


class BatchSection(Section):
    """When the server closes a batch: at ``size`` samples, or ``wait_ms`` milliseconds after its first."""

    size: Count = 8
    wait_ms: NotNegative = 1.0


class ServerSection(Section):
    """The tail server: threads that run the tail, and its batches.

    ``device`` is what it is, in virtual time: a name of :func:`fedsim.hardware.devices`, or the path of a
    file; by default this machine.
    """

    workers: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    batch: BatchSection = BatchSection()
    device: Name | None = None


def label_of(words: Iterable[str]) -> str:
    """The words as one that is fit for the name of a file."""
    return "-".join(re.sub(r"[^\w.]+", "-", word).strip("-.") for word in words)
