"""FedAvg of a split model: head, bottleneck, prior and tail are learned by all clients together.

::

    start   model, frozen                                                       server
    round   values -> train on task loss + beta * bits -> values                clients
            mean of the values -> freeze: medians, frequency tables             server
            bundle -> devices, tail server                                      between two rounds

What travels and is averaged are the values that training changes: parameters of head, encoder, decoder and
tail, statistics of batch normalisation, and the parameters of the prior's density. What :meth:`freeze
<edge.bottlenecks.Bottleneck.freeze>` makes of them does not: medians and quantiles of the density, and the
frequency tables. A mean of the clients' medians is not the median of the mean density, and tables of other
numbers of symbols have no mean. They are made anew at the server, once a round and in one place, and ship
with the model; no device computes them.

Every round has a model of its own id and a bottleneck of its own fingerprint. A device that still has the
one before is told so when it opens its next stream (see :func:`edge.bundle.save`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge import bundle
from edge.bundle import ModelSpec
from edge.coding import FrequencyTables
from edge.split import SplitModel
from fedsim.errors import FederationError, ModelError
from fedsim.federated.bottlenecks import (
    BottleneckTraining,
    Learned,
    averaged,
    bottleneck_of,
    check_density,
    fit_scale,
)
from fedsim.federated.method import Client, FederatedMethod, Predictor, State, register
from fedsim.federated.methods.fedavg import weighted_mean
from fedsim.federated.packet import ArraysCodec, Packet
from fedsim.federated.personal import samples_of
from fedsim.federated.site import Site
from fedsim.federated.work import Work
from fedsim.hardware.macs import layers_of
from fedsim.training.loop import as_input

__all__ = ["FedAvgBottleneck"]

_MODEL, _MEDIANS, _ROUNDS, _COUNT, _FIGURES = "model", "medians", "rounds", "count", "figures"
_TABLES = "tables."
_MOST_SAMPLES = 1 << 40
_MOST_FIGURE = 1e12  # nats, and bits: a mean of such is still a number
_MOST_SPREAD = 1e3  # standard deviation of a code's values, of which the prior's first width follows
_CHUNK = 512  # images at a time


class _Update(NamedTuple):
    samples: int
    values: dict[str, NDArray[Any]]
    learned: Learned


@register("fedavg-bottleneck")
@dataclass(frozen=True)
class FedAvgBottleneck(FederatedMethod):
    """FedAvg of head, bottleneck, prior and tail, whose frequency tables the server makes anew each round.

    Clients minimise ``cross-entropy + beta * bits``, end to end (Singh et al.: "End-to-end Learning of
    Compressible Features", ICIP 2020); the server averages by samples (McMahan et al., AISTATS 2017). For
    bottlenecks of one factorized prior: others need samples to be frozen, and the server has none.

    Args:
        cut: layer of the site's backbone behind which the tail begins (:func:`edge.split.cut`).
        bottleneck: its name.
        entry: where the head ends, if not at ``cut``.
        arguments: of the bottleneck.
        beta: weight of the rate, in nats a bit.
        warm_up: first rounds, in which the rate has no weight; then the prior starts at the spread that the
            clients' codes have found by then.
        training: of a client in a round.
    """

    cut: str
    bottleneck: str = "factorized"
    entry: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    beta: float = 0.001
    warm_up: int = 1
    training: BottleneckTraining = field(default_factory=BottleneckTraining)

    # --- the model --------------------------------------------------------------------------

    def spec(self, site: Site) -> ModelSpec:
        """What the model is made of.

        Raises:
            FederationError: clients have several networks.
        """
        if len(site.networks) > 1:
            raise FederationError("fedavg-bottleneck needs one network for all clients; they have several")
        plan = site.networks[0]
        if plan.bottleneck is not None:
            raise FederationError(
                "fedavg-bottleneck has a bottleneck of its own; the network has one as well"
            )
        return ModelSpec(
            name=f"federated-{self.bottleneck}",
            network=plan.backbone,
            network_arguments=plan.arguments,
            cut=self.cut,
            entry=self.entry,
            input_shape=tuple(site.dataset.image_shape),
            bottleneck=self.bottleneck,
            bottleneck_arguments=dict(self.arguments),
            rate=self.beta,
        )

    def model(self, site: Site, state: State) -> SplitModel:
        """The model as the server knows it, frozen and in evaluation mode."""
        model = self._fresh(site)
        self._load(site, model, state.arrays[_MODEL].tobytes())
        tables = {name: value for name, value in state.arrays.items() if name.startswith(_TABLES)}
        bottleneck = bottleneck_of(model)
        bottleneck.prior.medians.copy_(torch.tensor(state.arrays[_MEDIANS]))
        bottleneck.load_tables(FrequencyTables.from_arrays(tables))
        return model.eval().requires_grad_(False)

    def save(self, site: Site, state: State, folder: Path) -> str:
        """Write the model as a bundle, in the place of the one of an earlier round.

        Returns:
            the model's id.

        Raises:
            BundleError: it cannot be written.
        """
        return bundle.save(self.model(site, state), self.spec(site), folder, overwrite=True)

    @staticmethod
    def learned(state: State) -> Learned | None:
        """How the last round went, the mean of its clients' samples; None ahead of the first."""
        return Learned(*map(float, state.arrays[_FIGURES])) if _FIGURES in state.arrays else None

    # --- the method -------------------------------------------------------------------------

    def start(self, site: Site) -> State:
        """The first values."""
        model = self._fresh(site).eval()
        with torch.no_grad():
            logits = model(torch.zeros(1, *site.dataset.image_shape))[0].shape[1]
        if logits != site.classes:
            found = (
                f"{site.networks[0].backbone!r} has {logits} outputs and the data set {site.classes} classes"
            )
            raise FederationError(f"{found}; say so in the network's arguments")
        return self._frozen(site, model, rounds=0)

    def down(self, site: Site, state: State) -> Packet:
        """The values, and how many rounds they have been learned in."""
        rounds = int(state.arrays[_ROUNDS][0]).to_bytes(4, "little")
        return Packet({_MODEL: state.arrays[_MODEL].tobytes(), _ROUNDS: rounds})

    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """Train them on the client's samples."""
        model, samples = self._shared(site), samples_of(site, client)
        self._load(site, model, packet[_MODEL])
        generator = client.generator(site.seed)
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed() ^ 1)  # the noise is not that of the batches
            weighed = int.from_bytes(packet[_ROUNDS], "little") >= self.warm_up
            learned = self.training.run(model, samples, self.beta if weighed else 0.0, generator)
        return Packet(
            {
                _MODEL: self._codec(site).encode(averaged(model)),
                _COUNT: len(samples).to_bytes(8, "little"),
                _FIGURES: struct.pack("<3d", learned.loss, learned.bits, learned.spread),
            }
        )

    def work(self, site: Site, partition: int, samples: int) -> Work:
        """The training of the whole model."""
        layers = site.kept(
            ("split layers", repr(self)),
            lambda: tuple(layers_of(self._shared(site), site.dataset.image_shape)),
        )
        return Work.training(layers, samples, self.training.epochs, self.training.batch_size)

    def receive(self, site: Site, packet: Packet) -> _Update:
        """A client's samples, values and figures."""
        count = int.from_bytes(packet[_COUNT], "little")
        if not 1 <= count <= _MOST_SAMPLES:
            raise FederationError(f"a client of {count} samples, allowed are 1 to {_MOST_SAMPLES}")
        values = self._codec(site).decode(packet[_MODEL])
        if len(packet[_FIGURES]) != 24:
            raise FederationError(f"figures of {len(packet[_FIGURES])} bytes, expected 24")
        figures = struct.unpack("<3d", packet[_FIGURES])
        if not np.isfinite(figures).all() or min(figures) < 0 or max(figures[0], figures[1]) > _MOST_FIGURE:
            raise FederationError(f"figures {', '.join(f'{one:g}' for one in figures)} cannot be")
        if figures[2] > _MOST_SPREAD:
            raise FederationError(f"a code of spread {figures[2]:g}, allowed are at most {_MOST_SPREAD:g}")
        model = self._shared(site)
        self._load(site, model, packet[_MODEL])
        check_density(bottleneck_of(model))
        return _Update(count, values, Learned(*figures))

    def merge(self, site: Site, state: State, updates: Sequence[tuple[int, _Update]]) -> State:
        """The mean, weighted by samples; of counters the largest. Then freeze."""
        rounds = int(state.arrays[_ROUNDS][0]) + 1
        found = [update for _, update in updates]
        mean = weighted_mean([(update.samples, update.values) for update in found])
        weights = np.array([update.samples for update in found], dtype=np.float64)
        figures = np.array([[one.learned.loss, one.learned.bits, one.learned.spread] for one in found])
        averages = weights @ figures / weights.sum()
        model = self._fresh(site)  # what all clients work with is never frozen
        self._load(site, model, self._codec(site).encode(mean))
        if rounds == self.warm_up:
            with torch.random.fork_rng():
                torch.manual_seed(site.seed)
                fit_scale(bottleneck_of(model), float(averages[2]))
        return self._frozen(site, model, rounds, {_FIGURES: averages})

    def shared(self, site: Site, state: State) -> Packet:
        """The values, and the medians that the server made: rounding is about them."""
        values, medians = state.arrays[_MODEL].tobytes(), state.arrays[_MEDIANS].astype("<f4").tobytes()
        return Packet({_MODEL: values, _MEDIANS: medians})

    def predictors(self, site: Site, client: Client, packet: Packet) -> Mapping[str, Predictor]:
        """What a server would make of the client's payloads."""
        model = self._shared(site)
        self._load(site, model, packet[_MODEL])
        medians = torch.frombuffer(bytearray(packet[_MEDIANS]), dtype=torch.float32)
        bottleneck_of(model).prior.medians.copy_(medians)
        return {"head": partial(_transmitted, model.eval())}

    def publish(self, site: Site, state: State, folder: Path) -> None:
        """A bundle, in the place of the one of an earlier round, whose devices are told to update."""
        self.save(site, state, folder)

    # --- parts ------------------------------------------------------------------------------

    def _frozen(
        self, site: Site, model: SplitModel, rounds: int, more: Mapping[str, NDArray[Any]] | None = None
    ) -> State:
        """What the server knows of a model, with what it makes of its density."""
        model.eval()
        bottleneck = bottleneck_of(model)
        values = self._codec(site).encode(averaged(model))
        bottleneck.freeze()
        tables = bottleneck.tables
        assert tables is not None
        arrays: dict[str, NDArray[Any]] = {
            _MODEL: np.frombuffer(values, np.uint8),
            _MEDIANS: bottleneck.prior.medians.numpy().copy(),
            _ROUNDS: np.array([rounds]),
            **tables.to_arrays(),
            **(more or {}),
        }
        return State(arrays)

    def _shared(self, site: Site) -> SplitModel:
        """The model that all clients of this process work with, one after the other."""
        model: SplitModel = site.kept(("split model", repr(self)), lambda: self._fresh(site))
        return model

    def _fresh(self, site: Site) -> SplitModel:
        """A model with its first values, ready to be trained."""
        spec = self.spec(site)
        with torch.random.fork_rng():
            torch.manual_seed(site.seed)
            try:
                model = bundle.build(spec)
            except (LookupError, TypeError, ValueError) as error:
                raise ModelError(f"model {spec.name!r} cannot be made: {error}") from error
            bottleneck_of(model).prepare_training()
        return model

    def _codec(self, site: Site) -> ArraysCodec:
        codec: ArraysCodec = site.kept(
            ("split values", repr(self)), lambda: ArraysCodec.like(averaged(self._shared(site)))
        )
        return codec

    def _load(self, site: Site, model: SplitModel, values: bytes) -> None:
        arrays = self._codec(site).decode(values)
        found = {name: torch.tensor(value) for name, value in arrays.items()}
        model.load_state_dict(found, strict=False)


@torch.no_grad()
def _transmitted(model: SplitModel, images: Tensor) -> Tensor:
    """Logits [n, classes] of images uint8 [n, C, H, W], by way of the rounded code."""
    return torch.cat([model.transmit(as_input(part)) for part in torch.split(images, _CHUNK)])
