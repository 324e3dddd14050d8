"""Federated Reconnaissance: new classes by their mean, in an embedding that is not trained any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.prototypes import ClassStatistics, Prototypes, StatisticsCodec
from fedsim.errors import FederationError
from fedsim.federated.checks import check_classes
from fedsim.federated.method import Client, FederatedMethod, Predictor, State, register
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import ArraysCodec, Packet
from fedsim.federated.pretraining import EpisodicPretraining, Pretraining
from fedsim.federated.privacy import GaussianPrivacy
from fedsim.federated.site import Site, features_of, parameters_of
from fedsim.federated.work import Work, layers_of_client
from fedsim.prototypes import assign, classifiers, cluster, fleet_statistics

__all__ = ["Reconnaissance"]

_ENCODER, _CENTRES, _STATISTICS, _PROTOTYPES = "encoder", "centres", "statistics", "prototypes"


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

    With several ``slots``, a class has a prototype in every region of the embedding where it has samples. The
    regions are those of centres that the server finds among its base samples, and all classes share them: so
    a client can tell the slot of a sample by itself, also of a class that nobody has met before, and merging
    stays exact.

    Args:
        bits: of a value of a prototype on its way (:data:`edge.prototypes.BITS`).
        pretraining: how the server trains the embedding.
        privacy: clipping and noise of what a client sends; None for neither.
        classifier: by which everybody predicts (:func:`fedsim.prototypes.available`). ``gaussian`` needs sums
            of squares, which double what is sent.
        slots: prototypes that a class may have.

    Raises:
        FederationError: an unknown classifier, no slot, or privacy of squares or slots.
    """

    bits: int = 32
    pretraining: Pretraining | EpisodicPretraining = field(default_factory=Pretraining)
    privacy: GaussianPrivacy | None = None
    classifier: str = "euclidean"
    slots: int = 1

    def __post_init__(self) -> None:
        classifiers.find(self.classifier)
        if self.slots < 1:
            raise FederationError(f"reconnaissance: slots is {self.slots}, allowed is 1 or more")
        if self.privacy is not None and not self.additive:
            raise FederationError(
                "reconnaissance: privacy is of counts and sums, a row a class; leave it out, or have 1 slot "
                "and a classifier that needs no squares"
            )

    @property
    def additive(self) -> bool:
        """Where there is a row a class, without squares."""
        return self.slots == 1 and not self._squares

    @property
    def _squares(self) -> bool:
        return classifiers.needs_squares(self.classifier)

    def start(self, site: Site) -> State:
        """The embedding, centres in it if there are several slots, and the statistics of the base samples."""
        if len(site.networks) > 1:
            raise FederationError("reconnaissance needs one network for all clients; they have several")
        network = self.pretraining.trained(site)
        encoder = _embedding_codec(site).encode(_embedding(network))
        features = features_of(network, site.images[torch.from_numpy(site.base)]).numpy()
        arrays: dict[str, NDArray[Any]] = {_ENCODER: np.frombuffer(encoder, np.uint8)}
        centres = b""
        if self.slots > 1:
            found = cluster(features, _one_class(features), self.slots, seed=site.seed)
            arrays[_CENTRES], centres = found.vectors, found.vectors.tobytes()
        slots = _slots(site, features, centres)
        base = ClassStatistics.of(features, site.dataset.y_train[site.base], slots, squares=self._squares)
        return State(arrays, {_STATISTICS: base})

    def setup(self, site: Site, state: State) -> Packet:
        """The embedding, and the centres if there are several slots."""
        return Packet({name: value.tobytes() for name, value in state.arrays.items()})

    def down(self, site: Site, state: State) -> Packet:
        """Nothing: a client needs no prototypes to count."""
        return Packet()

    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """Count the samples and sum their features."""
        if self.privacy is None:
            statistics = self._counted(site, client)
        else:
            features, labels = self.features(site, client)
            statistics = self.privacy.statistics(features, labels, site.classes, client)
        encoded = self._codec(site).encode(statistics)
        return Packet().with_part(_STATISTICS, encoded.payload, encoded.ideal_bits)

    def _counted(self, site: Site, client: Client) -> ClassStatistics:
        """Statistics of the client's samples. Where one process has all clients, all are counted at once."""
        encoder, centres = client.kept[_ENCODER], client.kept.get(_CENTRES, b"")
        if not site.together:
            features, labels = self.features(site, client)
            return ClassStatistics.of(
                features, labels, _slots(site, features, centres), squares=self._squares
            )

        def counted() -> list[ClassStatistics]:
            parts = [share.samples(client.round) for share in site.shares]
            indices = np.concatenate(parts)
            owners = np.repeat(np.arange(site.clients), [len(part) for part in parts])
            features = _features(site, encoder, indices)
            labels, slots = site.dataset.y_train[indices], _slots(site, features, centres)
            return fleet_statistics(features, labels, owners, site.clients, slots, squares=self._squares)

        key = ("counted", encoder, centres, self._squares, client.round)
        fleet: list[ClassStatistics] = site.kept(key, counted)
        return fleet[client.partition]

    def features(self, site: Site, client: Client) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features [n, d] and labels [n] of the client's samples of the round."""
        features = _features(site, client.kept[_ENCODER], client.indices)
        return features, site.dataset.y_train[client.indices]

    def work(self, site: Site, partition: int, samples: int) -> Work:
        """The embedding of each sample, and nothing backwards."""
        return Work(layers_of_client(site, partition, head=False)).and_seen(samples)

    def receive(self, site: Site, packet: Packet) -> ClassStatistics:
        """A client's statistics."""
        statistics = self._codec(site).decode(packet[_STATISTICS])
        empty = self.privacy is not None
        check_classes(statistics, site.classes, slots=self.slots, squares=self._squares, empty=empty)
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
        """The best prototype, as the classifier has it."""
        statistics = self._codec(site).decode(packet[_PROTOTYPES])
        network, scores = _loaded(site, client.kept[_ENCODER]), classifiers.find(self.classifier)

        def predict(images: Tensor) -> Tensor:
            return scores(features_of(network, images), statistics, site.classes)

        return {"prototypes": predict}

    def _codec(self, site: Site) -> StatisticsCodec:
        return StatisticsCodec(site.dimension, self.bits, most_rows=site.classes * self.slots)


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


def _one_class(features: NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels that make no difference between samples: centres are those of all classes together."""
    return np.zeros(len(features), np.int64)


def _slots(site: Site, features: NDArray[np.float32], centres: bytes) -> NDArray[np.int64] | None:
    """The slot of each sample: the number of the centre next to it, if there are centres."""
    if not centres:
        return None
    vectors = np.frombuffer(centres, np.float32).reshape(-1, site.dimension)
    shared = Prototypes(np.zeros(len(vectors), np.int64), vectors)
    return assign(features, _one_class(features), shared)


def _features(site: Site, encoder: bytes, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features of samples. Where one process has all clients, those of all their samples are made at once."""
    if not site.together:
        return features_of(_loaded(site, encoder), site.images[torch.from_numpy(indices)]).numpy()
    rows, features = site.kept(("features", encoder), lambda: _all_features(site, encoder))
    found: NDArray[np.float32] = features[rows[indices]]
    return found


def _all_features(site: Site, encoder: bytes) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Features of every sample that a client has, and where each sample's are."""
    samples = np.unique(np.concatenate([part for share in site.shares for part in share.rounds]))
    rows = np.full(len(site.labels), -1)
    rows[samples] = np.arange(len(samples))
    return rows, features_of(_loaded(site, encoder), site.images[torch.from_numpy(samples)]).numpy()
