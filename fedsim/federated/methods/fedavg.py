"""FedAvg: one model for all, the mean of what the clients make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError
from fedsim.federated.local import LocalTask, LocalTraining, TrainedLocally, cross_entropy
from fedsim.federated.method import Client, Predictor, State, register
from fedsim.federated.packet import Packet
from fedsim.federated.personal import load_values, samples_of, values_codec
from fedsim.federated.predictors import by_head
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.site import Site, parameters_of

__all__ = ["FedAvg", "weighted_mean"]

_MODEL, _COUNT = "model", "count"
_MOST_SAMPLES = 1 << 40


@register("fedavg")
@dataclass(frozen=True)
class FedAvg(TrainedLocally):
    """FedAvg: all weights travel, and are averaged by samples.

    McMahan et al.: "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
    2017. The statistics of batch normalisation are averaged as well.

    Args:
        training: of a client in a round.
        pretraining: how the server trains the first weights on its base samples; None for untrained ones.
    """

    training: LocalTraining = field(default_factory=LocalTraining)
    pretraining: Pretraining | None = None
    together: ClassVar[bool] = True

    def start(self, site: Site) -> State:
        """The first weights, or what the server makes of them."""
        if len(site.networks) > 1:
            raise FederationError("fedavg needs one network for all clients; they have several")
        codec = values_codec(site, 0)
        values: bytes
        if self.pretraining is None:
            values = site.first(0, lambda network: codec.encode(parameters_of(network)))
        else:
            values = codec.encode(parameters_of(self.pretraining.trained(site)))
        return State({_MODEL: np.frombuffer(values, np.uint8)})

    def down(self, site: Site, state: State) -> Packet:
        """The weights."""
        return Packet({_MODEL: state.arrays[_MODEL].tobytes()})

    def begin(self, site: Site, client: Client, packet: Packet) -> LocalTask:
        """The weights of all, on the client's samples."""
        network = load_values(site, 0, packet[_MODEL])
        return LocalTask(network, samples_of(site, client), cross_entropy, client.generator(site.seed))

    def finish(self, site: Site, client: Client, task: LocalTask, statistics: ClassStatistics) -> Packet:
        """The weights as they are now, and how many samples they are of."""
        values = values_codec(site, 0).encode(parameters_of(task.network))
        return Packet({_MODEL: values, _COUNT: len(task.samples).to_bytes(8, "little")})

    def receive(self, site: Site, packet: Packet) -> tuple[int, dict[str, NDArray[Any]]]:
        """A client's samples and weights."""
        count = int.from_bytes(packet[_COUNT], "little")
        if not 1 <= count <= _MOST_SAMPLES:
            raise FederationError(f"a client of {count} samples, allowed are 1 to {_MOST_SAMPLES}")
        return count, values_codec(site, 0).decode(packet[_MODEL])

    def merge(
        self,
        site: Site,
        state: State,
        updates: Sequence[tuple[int, tuple[int, dict[str, NDArray[Any]]]]],
    ) -> State:
        """The mean, weighted by samples; of counters the largest."""
        mean = weighted_mean([update for _, update in updates])
        return State({_MODEL: np.frombuffer(values_codec(site, 0).encode(mean), np.uint8)})

    def shared(self, site: Site, state: State) -> Packet:
        """The weights."""
        return self.down(site, state)

    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """The head of the one model."""
        network = load_values(site, 0, packet[_MODEL]).eval()
        return {"head": partial(by_head, network)}


def weighted_mean(updates: Sequence[tuple[int, Mapping[str, NDArray[Any]]]]) -> dict[str, NDArray[Any]]:
    """The mean of arrays, weighted by the count that stands by each; of whole numbers the largest."""
    total = sum(count for count, _ in updates)
    mean: dict[str, NDArray[Any]] = {}
    for name, first in updates[0][1].items():
        parts = [values[name] for _, values in updates]
        if first.dtype.kind == "f":
            weights = [count / total for count, _ in updates]
            summed = sum(w * part.astype(np.float64) for w, part in zip(weights, parts, strict=True))
            mean[name] = np.asarray(summed).astype(first.dtype)
        else:
            mean[name] = np.maximum.reduce(parts)
    return mean
