"""Federated Reconnaissance: new classes by their mean, in an embedding that is not trained any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.federated.checks import check_classes
from fedsim.federated.method import Client, FederatedMethod, Predictor, State, register
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import ArraysCodec, Packet
from fedsim.federated.predictors import nearest_prototype
from fedsim.federated.pretraining import EpisodicPretraining, Pretraining
from fedsim.federated.privacy import GaussianPrivacy
from fedsim.federated.site import Site, features_of, parameters_of

__all__ = ["Reconnaissance"]

_ENCODER, _STATISTICS, _PROTOTYPES = "encoder", "statistics", "prototypes"


@register("reconnaissance")
@dataclass(frozen=True)
class Reconnaissance(FederatedMethod):
    """Federated Reconnaissance: class means in a frozen embedding, merged exactly.

    Hendryx, KC, Walls, Morrison: "Federated Reconnaissance: Efficient, Distributed, Class-Incremental
    Learning", NFFL at NeurIPS 2021. The server trains the embedding on its base classes. A client counts
    the samples of a mission and sums their features; the server adds that to what it has. Nobody computes
    a gradient in the field, and nothing is forgotten: the mean of a class depends on its own samples alone.

    The public code merges means that have the server's in them, weighted by the new samples only; here
    only sums of local samples travel.

    Args:
        bits: of a value of a prototype on its way (:data:`edge.prototypes.BITS`).
        pretraining: how the server trains the embedding.
        privacy: clipping and noise of what a client sends; None for neither.
    """

    bits: int = 32
    pretraining: Pretraining | EpisodicPretraining = field(default_factory=Pretraining)
    privacy: GaussianPrivacy | None = None

    @property
    def additive(self) -> bool:
        """Always: the merge is a sum."""
        return True

    def start(self, site: Site) -> State:
        """The embedding, and the statistics of the base samples in it."""
        network = self.pretraining.trained(site)
        encoder = _embedding_codec(site).encode(_embedding(network))
        features = features_of(network, site.images[torch.from_numpy(site.base)]).numpy()
        base = ClassStatistics.of(features, site.dataset.y_train[site.base])
        return State({_ENCODER: np.frombuffer(encoder, np.uint8)}, {_STATISTICS: base})

    def setup(self, site: Site, state: State) -> Packet:
        """The embedding."""
        return Packet({_ENCODER: state.arrays[_ENCODER].tobytes()})

    def down(self, site: Site, state: State) -> Packet:
        """Nothing: a client needs no prototypes to count."""
        return Packet()

    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """Count the samples and sum their features."""
        features, labels = self.features(site, client)
        if self.privacy is None:
            statistics = ClassStatistics.of(features, labels)
        else:
            statistics = self.privacy.statistics(features, labels, site.classes, client)
        encoded = self._codec(site).encode(statistics)
        return Packet().with_part(_STATISTICS, encoded.payload, encoded.ideal_bits)

    def features(self, site: Site, client: Client) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features [n, d] and labels [n] of the client's samples of the round."""
        features = _features(site, client.kept[_ENCODER], client.indices)
        return features, site.dataset.y_train[client.indices]

    def receive(self, site: Site, packet: Packet) -> ClassStatistics:
        """A client's statistics."""
        statistics = self._codec(site).decode(packet[_STATISTICS])
        check_classes(statistics, site.classes, empty=self.privacy is not None)
        return statistics

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, ClassStatistics]]) -> State:
        """Add them."""
        merged = ClassStatistics.merged([state.statistics[_STATISTICS], *(found for _, found in updates)])
        return State(state.arrays, {_STATISTICS: merged})

    def shared(self, site: Site, state: State) -> Packet:
        """The prototypes of all classes so far."""
        encoded = self._codec(site).encode(state.statistics[_STATISTICS])
        return Packet().with_part(_PROTOTYPES, encoded.payload, encoded.ideal_bits)

    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """The nearest prototype."""
        statistics = self._codec(site).decode(packet[_PROTOTYPES])
        network = _loaded(site, client.kept[_ENCODER])

        def predict(images: Tensor) -> Tensor:
            return nearest_prototype(features_of(network, images), statistics, site.classes)

        return {"prototypes": predict}

    def _codec(self, site: Site) -> StatisticsCodec:
        return StatisticsCodec(site.dimension, self.bits, most_rows=site.classes)


def _embedding(network: PrototypeNetwork) -> dict[str, NDArray[Any]]:
    """The values of a network, but for its head."""
    values = parameters_of(network)
    return {name: value for name, value in values.items() if not name.startswith("head.")}


def _embedding_codec(site: Site) -> ArraysCodec:
    codec: ArraysCodec = site.kept("embedding codec", lambda: ArraysCodec.like(_embedding(site.network(0))))
    return codec


def _loaded(site: Site, encoder: bytes) -> PrototypeNetwork:
    """The site's network with these values in its embedding."""
    network = site.network(0)
    values = _embedding_codec(site).decode(encoder)
    network.load_state_dict({name: torch.tensor(value) for name, value in values.items()}, strict=False)
    return network


def _features(site: Site, encoder: bytes, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features of samples. Where one process has all clients, those of all their samples are made at once."""
    if not site.together:
        return features_of(_loaded(site, encoder), site.images[torch.from_numpy(indices)]).numpy()
    rows, features = site.kept(("features", hash(encoder)), lambda: _all_features(site, encoder))
    found: NDArray[np.float32] = features[rows[indices]]
    return found


def _all_features(site: Site, encoder: bytes) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Features of every sample that a client has, and where each sample's are."""
    samples = np.unique(np.concatenate([part for share in site.shares for part in share.rounds]))
    rows = np.full(len(site.labels), -1)
    rows[samples] = np.arange(len(samples))
    return rows, features_of(_loaded(site, encoder), site.images[torch.from_numpy(samples)]).numpy()
