"""FedAvg: one model for all, the mean of what the clients make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from fedsim.errors import FederationError
from fedsim.federated.local import LocalTraining
from fedsim.federated.method import Client, FederatedMethod, Predictor, State, register
from fedsim.federated.packet import Packet
from fedsim.federated.personal import load_values, samples_of, values_codec
from fedsim.federated.predictors import by_head
from fedsim.federated.site import Site, parameters_of

__all__ = ["FedAvg"]

_MODEL, _COUNT = "model", "count"
_MOST_SAMPLES = 1 << 40


@register("fedavg")
@dataclass(frozen=True)
class FedAvg(FederatedMethod):
    """FedAvg: all weights travel, and are averaged by samples.

    McMahan et al.: "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
    2017. The statistics of batch normalisation are averaged as well.

    Args:
        training: of a client in a round.
    """

    training: LocalTraining = field(default_factory=LocalTraining)

    def start(self, site: Site) -> State:
        """The first weights."""
        if len(site.networks) > 1:
            raise FederationError("fedavg needs one network for all clients; they have several")
        values: bytes = site.first(0, lambda network: values_codec(site, 0).encode(parameters_of(network)))
        return State({_MODEL: np.frombuffer(values, np.uint8)})

    def down(self, site: Site, state: State) -> Packet:
        """The weights."""
        return Packet({_MODEL: state.arrays[_MODEL].tobytes()})

    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """Train them on the client's samples."""
        network, samples = load_values(site, 0, packet[_MODEL]), samples_of(site, client)
        self.training.run(
            network,
            samples,
            lambda features, logits, labels: F.cross_entropy(logits, labels),
            client.generator(site.seed),
        )
        values = values_codec(site, 0).encode(parameters_of(network))
        return Packet({_MODEL: values, _COUNT: len(samples).to_bytes(8, "little")})

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
        total = sum(count for _, (count, _) in updates)
        mean: dict[str, NDArray[Any]] = {}
        for name, (_, kind) in values_codec(site, 0).shapes.items():
            parts = [values[name] for _, (_, values) in updates]
            if kind.kind == "f":
                weights = [count / total for _, (count, _) in updates]
                summed = sum(w * part.astype(np.float64) for w, part in zip(weights, parts, strict=True))
                mean[name] = np.asarray(summed).astype(kind)
            else:
                mean[name] = np.maximum.reduce(parts)
        return State({_MODEL: np.frombuffer(values_codec(site, 0).encode(mean), np.uint8)})

    def shared(self, site: Site, state: State) -> Packet:
        """The weights."""
        return self.down(site, state)

    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """The head of the one model."""
        network = load_values(site, 0, packet[_MODEL]).eval()
        return {"head": partial(by_head, network)}
