"""The sections of a scenario that is federated: methods, rounds, clients, and what these meet.

A scenario that has a ``federation`` and no bottleneck is federated only, and needs nothing of what a split
network does: it is a :class:`FederatedScenario`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from fedsim.scenario_problems import unknown
from fedsim.scenario_sections import (
    BottleneckSection,
    Count,
    DataSection,
    EngineInfo,
    FleetGroup,
    Name,
    Options,
    Positive,
    Section,
    Seed,
    label_of,
)

__all__ = [
    "DEPLOYMENT",
    "FEDERATED_ENGINES",
    "INPROCESS",
    "FederatedModelSection",
    "FederatedScenario",
    "FederationSection",
    "MaskingSection",
    "MethodSection",
    "MissionsSection",
    "NetworkSection",
    "is_federated_only",
]

#: The engine that has all clients in this process.
INPROCESS = "inprocess"
#: The engine whose clients are processes that reach the server over a socket.
DEPLOYMENT = "deployment"
#: Engines of federations by name.
FEDERATED_ENGINES = {
    INPROCESS: EngineInfo(
        module="fedsim.federated.engines.inline",
        title="all clients in this process: real messages, but no link.",
        most_devices=100_000,
    ),
    "ray": EngineInfo(
        module="fedsim.federated.engines.ray",
        title="Flower's simulation on Ray, for many processors and machines (extra ray).",
        most_devices=10_000,
    ),
    DEPLOYMENT: EngineInfo(
        module="fedsim.federated.engines.deployment",
        title="Flower's SuperLink and a SuperNode for each client, on loopback.",
        most_devices=64,
    ),
    "containers": EngineInfo(
        module="fedsim.federated.engines.containers",
        title="the same in containers, which docker compose starts (docs/containers.md).",
        most_devices=1000,
    ),
}


def _known_engine(name: str) -> str:
    if name not in FEDERATED_ENGINES:
        raise ValueError(unknown("engine of a federation", name, FEDERATED_ENGINES))
    return name


class MaskingSection(Section):
    """Pairwise masking: the server sees the sum of at least ``least`` clients, and of no single one.

    ``share_noise`` lets each client add only its part of the noise that the method's privacy asks for.
    """

    least: Annotated[int, Field(strict=True, ge=2, le=1_000_000)] = 2
    share_noise: Annotated[bool, Field(strict=True)] = False


class MethodSection(Options):
    """A federated method and its options; ``label`` names its row in the results, by default the method."""

    name: Name
    masking: MaskingSection | None = None
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def all_options(self) -> dict[str, Any]:
        """The options of the method, and how it is masked, where it is."""
        return self.options | ({} if self.masking is None else {"masking": self.masking.model_dump()})

    @property
    def row(self) -> str:
        """Name of the row."""
        return self.label or label_of([self.name])


class MissionsSection(Section):
    """Class growth: the server knows the first ``base`` classes, and clients meet the others on missions.

    On a mission, which takes a round, a client meets ``classes`` classes with ``shots`` samples of each;
    ``disjoint`` lets each class be met once only.
    """

    base: Count
    classes: Count
    shots: Count
    disjoint: Annotated[bool, Field(strict=True)] = False


class NetworkSection(Section):
    """A network of clients; ``dimension`` is that of the prototype space, by default the network's own.

    Where it is split, a ``bottleneck`` stands behind the layer ``cut``, and is trained with the rest.
    """

    backbone: Name
    arguments: dict[str, Any] = Field(default={})
    dimension: Count | None = None
    cut: Name | None = None
    bottleneck: BottleneckSection | None = None


class FederationSection(Section):
    """What is carried out with the data: methods one after the other, on the same clients and samples.

    ``cohort`` is the number of clients that take part in a round, by default all; ``dropout`` the
    probability that one of them is not heard of again; ``evaluate_every`` the number of rounds from one
    evaluation to the next. Clients have the ``networks`` in turn, or those whose numbers ``network_of``
    has for the groups of the fleet; by default all have that of the model.
    ``rounds`` may be left out where missions say how many there are. A reply has no part in its round
    whose client worked longer than ``deadline_s``, where the devices of each group of the fleet take
    ``slowness`` times as long as the machine that plays them. ``delta`` is what epsilon is told with, of
    methods that are differentially private. ``tls`` encrypts what passes on the engine ``deployment``; on
    others nothing crosses a socket of a client's.
    """

    methods: Annotated[tuple[MethodSection, ...], Field(min_length=1)]
    rounds: Count | None = None
    cohort: Count | None = None
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)] = 0.0
    deadline_s: Positive | None = None
    slowness: tuple[Positive, ...] = ()
    evaluate_every: Count = 1
    delta: Annotated[float, Field(strict=True, gt=0, lt=1)] = 1e-5
    missions: MissionsSection | None = None
    networks: tuple[NetworkSection, ...] = ()
    network_of: tuple[Annotated[int, Field(strict=True, ge=0)], ...] = ()
    limits: dict[str, Any] = Field(default={})
    tls: Annotated[bool, Field(strict=True)] = True


class FederatedModelSection(Section):
    """The network of all clients."""

    backbone: Name
    backbone_arguments: dict[str, Any] = Field(default={})


class FederatedScenario(Section):
    """A scenario that is federated only. :func:`fedsim.scenario.load` also checks that its names exist."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=64)]
    seed: Seed = 0
    data: DataSection
    model: FederatedModelSection | None = None
    fleet: Annotated[tuple[FleetGroup, ...], Field(min_length=1)]
    federation: FederationSection
    engine: Annotated[str, AfterValidator(_known_engine)] = INPROCESS

    @property
    def devices(self) -> int:
        """Devices of all groups together, each a client."""
        return sum(group.count for group in self.fleet)

    def resolved(self) -> dict[str, Any]:
        """The whole scenario, defaults filled in, as JSON values. Loaded again, it is equal to this."""
        return self.model_dump(mode="json")


def is_federated_only(document: Mapping[str, Any]) -> bool:
    """Whether the values of a file are those of a scenario without a split network."""
    model = document.get("model")
    split = isinstance(model, Mapping) and bool({"cut", "bottleneck"} & model.keys())
    return document.get("federation") is not None and not split and not document.get("sweep")
