"""Whether the names, options and numbers of a federation exist and fit. Trains and runs nothing."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import fields

import torch

from fedsim import data
from fedsim.data import partitions
from fedsim.errors import FederationError, ModelError, Problem
from fedsim.federated import method as methods
from fedsim.federated.method import FederatedMethod
from fedsim.federated.methods.fedavg import FedAvg
from fedsim.federated.methods.fedavg_bottleneck import FedAvgBottleneck
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.options import method_of, option_problems
from fedsim.federated.privacy import GaussianPrivacy
from fedsim.federated.secure_aggregation import Masked
from fedsim.federated.site import NetworkPlan
from fedsim.federated.strategy import Limits
from fedsim.fleet import fleet_problems
from fedsim.scenario import FleetGroup, Scenario
from fedsim.scenario_federation import (
    FEDERATED_ENGINES,
    FederatedScenario,
    FederationSection,
    NetworkSection,
)
from fedsim.scenario_problems import complaint, unknown

__all__ = ["check_federation", "networks_of"]

_KEY = "federation"
#: Keys of a group of the fleet that say when samples are told, and what on.
_OF_SPLIT_NETWORKS = (
    "arrivals",
    "availability",
    "battery_wh",
    "in_flight",
    "deadline_s",
    "fallback",
    "erasure",
)


def networks_of(scenario: Scenario | FederatedScenario) -> tuple[NetworkSection, ...]:
    """The networks of clients: those of the federation, or else that of the model; none without either."""
    assert scenario.federation is not None
    if scenario.federation.networks or scenario.model is None:
        return scenario.federation.networks
    model = scenario.model
    return (NetworkSection(backbone=model.backbone, arguments=model.backbone_arguments),)


def check_federation(scenario: Scenario | FederatedScenario) -> Iterator[Problem]:
    """Everything that is wrong in the federation of a scenario whose values are of the right kind."""
    federation = scenario.federation
    assert federation is not None
    yield from _share_problems(scenario, federation)
    yield from _number_problems(scenario, federation)
    yield from _fleet_problems(scenario)
    yield from _limit_problems(federation)
    yield from _network_problems(scenario)
    yield from _method_problems(scenario, federation)


def _share_problems(
    scenario: Scenario | FederatedScenario, federation: FederationSection
) -> Iterator[Problem]:
    """Who holds what: a partition or missions, one of them."""
    partition, missions = scenario.data.partition, federation.missions
    if (partition is None) == (missions is None):
        both = "stands beside federation.missions; leave one of them out"
        neither = f"is missing; has to be a mapping with the key kind ({', '.join(partitions.available())})"
        message = both if partition else f"{neither}, unless there are federation.missions"
        yield Problem("data.partition", message, Problem.shown(partition.model_dump()) if partition else None)
    if partition is not None:
        yield from _partition_problems(partition.kind, partition.options)
    if missions is not None:
        classes = data.find(scenario.data.name).classes
        if missions.base >= classes:
            message = f"leaves no class to be met; the data set {scenario.data.name!r} has {classes}"
            yield Problem(f"{_KEY}.missions.base", message, Problem.shown(missions.base))
        elif missions.classes > classes - missions.base:
            message = f"there are {classes - missions.base} classes to be met beside the base classes"
            yield Problem(f"{_KEY}.missions.classes", message, Problem.shown(missions.classes))
    elif federation.rounds is None:
        yield Problem(f"{_KEY}.rounds", "is missing; has to be a whole number, at least 1")


def _partition_problems(kind: str, options: Mapping[str, object]) -> Iterator[Problem]:
    if kind not in partitions.available():
        message = unknown("partition", kind, partitions.available())
        yield Problem("data.partition.kind", message, Problem.shown(kind))
        return
    known = partitions.options_of(kind)
    strangers = []
    for name, value in options.items():
        place, shown = f"data.partition.{name}", Problem.shown(value)
        if name not in known:
            strangers.append(name)
            yield Problem(place, unknown("key", name, ["kind", *known], listed="the keys here are"), shown)
        elif said := complaint(_TYPES.get(str(known[name].annotation), known[name].annotation), value):
            yield Problem(place, said, shown)
    for name, parameter in known.items():
        misspelt = difflib.get_close_matches(name, strangers)
        if parameter.default is parameter.empty and name not in options and not misspelt:
            yield Problem(f"data.partition.{name}", f"is missing; the partition {kind!r} needs it")


#: The annotations of partitions, which are text.
_TYPES = {kind.__name__: kind for kind in (bool, float, int)}


def _number_problems(
    scenario: Scenario | FederatedScenario, federation: FederationSection
) -> Iterator[Problem]:
    clients = scenario.devices
    if federation.cohort is not None and federation.cohort > clients:
        message = f"the fleet has {clients} {'device' if clients == 1 else 'devices'}"
        yield Problem(f"{_KEY}.cohort", message, Problem.shown(federation.cohort))
    groups = len(scenario.fleet)
    for key, values in (("slowness", federation.slowness), ("network_of", federation.network_of)):
        if values and len(values) != groups:
            message = (
                f"needs {groups} {'entry' if groups == 1 else 'entries'}, one for each group of the fleet"
            )
            yield Problem(f"{_KEY}.{key}", message, Problem.shown(list(values)))
    networks = len(networks_of(scenario))
    for group, number in enumerate(federation.network_of):
        if number >= networks:
            message = f"there are {networks} networks, the first of them is 0"
            yield Problem(f"{_KEY}.network_of.{group}", message, Problem.shown(number))
    if isinstance(scenario, FederatedScenario):
        most = FEDERATED_ENGINES[scenario.engine].most_devices
        if clients > most:
            shown = Problem.shown([group.model_dump(include={"count"}) for group in scenario.fleet])
            message = f"has {clients} devices; the engine {scenario.engine!r} takes at most {most}"
            yield Problem("fleet", message, shown)
        for place, devices in enumerate(scenario.fleet):
            for key in _OF_SPLIT_NETWORKS:
                if getattr(devices, key) != FleetGroup.model_fields[key].default:
                    yield Problem(f"fleet.{place}.{key}", "is of a split network; here is none")


def _fleet_problems(scenario: Scenario | FederatedScenario) -> Iterator[Problem]:
    """Devices and links on which rounds can be priced. Those of a split network are looked up elsewhere."""
    without = {key: FleetGroup.model_fields[key].default for key in _OF_SPLIT_NETWORKS}
    fleet = tuple(group.model_copy(update=without) for group in scenario.fleet)
    wrong = list(fleet_problems(fleet, None))
    if isinstance(scenario, FederatedScenario):
        yield from wrong
    if not wrong and any(group.device or group.link for group in fleet):
        from fedsim.federated.pricing import pricing_problems  # noqa: PLC0415  (loads numba)

        yield from pricing_problems(fleet)


def _limit_problems(federation: FederationSection) -> Iterator[Problem]:
    wrong = list(option_problems(f"{_KEY}.limits", Limits, federation.limits))
    yield from wrong
    if not wrong:
        try:
            Limits(**federation.limits)
        except (FederationError, ValueError) as error:
            yield Problem(f"{_KEY}.limits", str(error), Problem.shown(federation.limits))


def _network_problems(scenario: Scenario | FederatedScenario) -> Iterator[Problem]:
    """Networks that exist, take the images, and have a prototype space of one dimension."""
    source, networks = data.find(scenario.data.name), networks_of(scenario)
    if not networks:
        yield Problem("model", "is missing; name a backbone here, or federation.networks")
        return
    own = bool(scenario.federation and scenario.federation.networks)
    dimensions = {}
    for number, plan in enumerate(networks):
        key = f"{_KEY}.networks.{number}" if own else "model.backbone"
        try:
            # A bottleneck may compute with values when it is made, which the meta device does not have.
            with torch.random.fork_rng(), torch.device("cpu" if plan.bottleneck else "meta"):
                made = NetworkPlan(**plan.model_dump()).network(source.image_shape, source.classes)
        except ModelError as error:
            yield Problem(key, " ".join(str(error).split()), Problem.shown(plan.model_dump()))
        else:
            dimensions[key] = made.dimension
    if len(set(dimensions.values())) > 1:
        found = ", ".join(str(one) for one in dimensions.values())
        message = f"have prototype spaces of {found} dimensions; set the same dimension for each"
        yield Problem(f"{_KEY}.networks", message)


def _method_problems(
    scenario: Scenario | FederatedScenario, federation: FederationSection
) -> Iterator[Problem]:
    rows: dict[str, int] = {}
    for number, section in enumerate(federation.methods):
        key = f"{_KEY}.methods.{number}"
        row = section.row.casefold()  # some file systems take upper and lower case for the same
        if row in rows:
            message = f"gives a row the name that methods.{rows[row]} has; set a label"
            yield Problem(key, message, Problem.shown(section.row))
        rows.setdefault(row, number)
        try:
            cls = methods.find(section.name)
        except FederationError as error:
            message = unknown("federated method", section.name, methods.available())
            shown = Problem.shown(section.name)
            yield Problem(f"{key}.name", str(error) if ":" in section.name else message, shown)
            continue
        wrong = [
            *option_problems(key, cls, section.options),
            *_fit_problems(key, cls, section.options, scenario, federation),
        ]
        yield from wrong
        if not wrong:
            try:
                made = method_of(section.name, section.all_options)
            except FederationError as error:
                place = f"{key}.masking" if section.masking else key
                yield Problem(place, str(error), Problem.shown(section.model_dump(exclude_unset=True)))
            else:
                yield from _accountant_problems(key, made.method if isinstance(made, Masked) else made)


def _accountant_problems(key: str, method: FederatedMethod) -> Iterator[Problem]:
    """Epsilon is computed at the very end of a run: too late to learn that nobody can."""
    privacy = getattr(method, "privacy", None)
    noisy = isinstance(privacy, GaussianPrivacy) and privacy.noise
    if noisy and importlib.util.find_spec("dp_accounting") is None:
        message = "needs dp-accounting for its epsilon, which is not installed: pip install 'fedsim[privacy]'"
        yield Problem(f"{key}.privacy", message)


def _fit_problems(
    key: str,
    cls: type[FederatedMethod],
    options: Mapping[str, object],
    scenario: Scenario | FederatedScenario,
    federation: FederationSection,
) -> Iterator[Problem]:
    """What a method needs of the clients and their data."""
    name = Problem.shown(cls.__name__)
    networks = networks_of(scenario)
    known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
    pretraining = known.get("pretraining")
    pretrained = pretraining is not None and options.get("pretraining", pretraining.default) is not None
    if federation.missions is None and pretrained:
        yield Problem(key, "trains on base classes at the server, so it needs federation.missions", name)
    if issubclass(cls, Reconnaissance) and len(networks) > 1:
        yield Problem(key, "has one embedding, so all clients need the same network", name)
    if issubclass(cls, (FedAvg, FedAvgBottleneck)) and len(networks) > 1:
        yield Problem(key, "averages weights, so all clients need the same network", name)
    if issubclass(cls, FedAvgBottleneck) and any(network.bottleneck for network in networks):
        yield Problem(key, "has a bottleneck of its own, so the network needs none", name)
