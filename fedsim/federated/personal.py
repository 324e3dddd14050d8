"""What the prototype methods share: clients with models of their own that they never send."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.federated.checks import check_classes
from fedsim.federated.local import LocalTask, LocalTraining, Loss, TrainedLocally
from fedsim.federated.method import Client, Predictor, State
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import ArraysCodec, Packet
from fedsim.federated.site import Site, features_of, parameters_of
from fedsim.federated.work import Work
from fedsim.prototypes.classifiers import euclidean
from fedsim.training.loop import Images

__all__ = ["PersonalModels", "client_means", "load_values", "samples_of", "values_codec"]

_MODEL = "model"


def values_codec(site: Site, number: int) -> ArraysCodec:
    """Of all values of one of the site's networks."""
    codec: ArraysCodec = site.kept(
        ("values", number), lambda: ArraysCodec.like(parameters_of(site.network(number)))
    )
    return codec


def load_values(site: Site, number: int, values: bytes) -> PrototypeNetwork:
    """One of the site's networks with these values."""
    network = site.network(number)
    arrays = values_codec(site, number).decode(values)
    network.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
    return network


def samples_of(site: Site, client: Client) -> Images:
    """The client's samples of the round."""
    chosen = torch.from_numpy(client.indices)
    return Images(site.images[chosen], site.labels[chosen])


def client_means(
    updates: Sequence[tuple[int, ClassStatistics]], weighting: Literal["count", "uniform"]
) -> ClassStatistics:
    """Prototypes of all clients together.

    Args:
        updates: statistics of each client.
        weighting: ``count`` for the mean of all samples; ``uniform`` for the mean of the clients' means,
            as the public code of FedProto, FedTGP and FedSA has it: a client with one sample of a class
            then weighs as much as one with a thousand.
    """
    if weighting == "count":
        return ClassStatistics.merged(found for _, found in updates)
    ones = [
        ClassStatistics(found.classes, found.slots, np.ones_like(found.counts), found.means)
        for _, found in updates
    ]
    return ClassStatistics.merged(ones)


@dataclass(frozen=True)
class PersonalModels(TrainedLocally):
    """A client's model is its own: it is kept, and prototypes travel in its place.

    Args:
        training: of a client in a round.
        bits: of a value of a prototype on its way up and down (:data:`edge.prototypes.BITS`).
        features: of which a client's prototypes are the means: ``train`` for those seen during the training,
            ``eval`` for a pass of their own behind it.
        weighting: of the clients at the server; see :func:`client_means`.
    """

    training: LocalTraining = field(default_factory=LocalTraining)
    bits: int = 32
    features: Literal["train", "eval"] = "train"
    weighting: Literal["count", "uniform"] = "uniform"

    @abstractmethod
    def loss(self, site: Site, client: Client, packet: Packet, network: PrototypeNetwork) -> Loss:
        """What a client minimises in a round."""

    def begin(self, site: Site, client: Client, packet: Packet) -> LocalTask:
        """The client's model, as it kept it."""
        network = self.network(site, client)
        loss = self.loss(site, client, packet, network)
        return LocalTask(network, samples_of(site, client), loss, client.generator(site.seed))

    def finish(self, site: Site, client: Client, task: LocalTask, statistics: ClassStatistics) -> Packet:
        """Keep the model, and count its features."""
        if self.features == "eval":
            statistics = self.training.statistics(task.network, task.samples)
        number = site.shares[client.partition].network
        client.kept[_MODEL] = values_codec(site, number).encode(parameters_of(task.network))
        return self.replied(site, client, statistics)

    def work(self, site: Site, partition: int, samples: int) -> Work:
        """The training, and the pass behind it where there is one."""
        training = super().work(site, partition, samples)
        return training.and_seen(samples) if self.features == "eval" else training

    def replied(self, site: Site, client: Client, statistics: ClassStatistics) -> Packet:
        """A client's reply: its statistics."""
        return self.put("statistics", statistics, site)

    def receive(self, site: Site, packet: Packet) -> ClassStatistics:
        """A client's statistics."""
        statistics = self.codec(site).decode(packet["statistics"])
        check_classes(statistics, site.classes)
        return statistics

    def shared(self, site: Site, state: State) -> Packet:
        """As for training."""
        return self.down(site, state)

    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """By the client's own head, and by the prototypes of all."""
        network = self.network(site, client)
        points = cache(partial(features_of, network))  # both are asked about the same images

        @torch.no_grad()
        def by_head(images: Tensor) -> Tensor:
            logits: Tensor = network.head(points(images))
            return logits

        found: dict[str, Predictor] = {"head": by_head}
        if (statistics := self.prototypes(site, packet)) is not None:
            known = statistics

            def nearest(images: Tensor) -> Tensor:
                return euclidean(points(images), known, site.classes)

            found["prototypes"] = nearest
        return found

    def prototypes(self, site: Site, packet: Packet) -> ClassStatistics | None:
        """The prototypes that a client has been sent, if any."""
        return self.codec(site).decode(packet["prototypes"]) if "prototypes" in packet else None

    def network(self, site: Site, client: Client) -> PrototypeNetwork:
        """The client's model, in evaluation mode: as it kept it, or with the site's first weights.

        Everybody begins with the same weights of a backbone, as if the server had dealt them out.
        """
        number = site.shares[client.partition].network
        values = client.kept[_MODEL] if _MODEL in client.kept else self._first(site, number)
        return load_values(site, number, values).eval()

    def _first(self, site: Site, number: int) -> bytes:
        codec = values_codec(site, number)
        values: bytes = site.first(number, lambda network: codec.encode(parameters_of(network)))
        return values

    def codec(self, site: Site) -> StatisticsCodec:
        """For prototypes on their way."""
        return StatisticsCodec(site.dimension, self.bits, most_rows=site.classes)

    def put(self, name: str, statistics: ClassStatistics, site: Site) -> Packet:
        """A packet with one part, of statistics."""
        encoded = self.codec(site).encode(statistics)
        return Packet().with_part(name, encoded.payload, encoded.ideal_bits)
