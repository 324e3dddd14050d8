"""What a client does with its own samples: a few epochs of stochastic gradient descent."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError
from fedsim.federated.method import Client, FederatedMethod
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.packet import Packet
from fedsim.federated.site import Site, features_of
from fedsim.federated.work import Work, layers_of_client
from fedsim.training.loop import Images, batches

__all__ = ["LocalTask", "LocalTraining", "Loss", "TrainedLocally", "cross_entropy"]

#: From features [n, d], logits [n, classes] and labels [n] to a scalar.
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of a classifier alone."""
    return F.cross_entropy(logits, labels)


@dataclass(frozen=True)
class LocalTask:
    """What a client is about to train.

    Args:
        network: with the values to begin with. It is the site's, so they last until the next client's.
        samples: of the client.
        loss: to be minimised.
        generator: draws the batches.
    """

    network: PrototypeNetwork
    samples: Images
    loss: Loss
    generator: torch.Generator


@dataclass(frozen=True)
class LocalTraining:
    """SGD with momentum, as all the methods here are published with.

    Args:
        epochs: passes over the client's samples in a round.
        batch_size: samples a step.
        learning_rate: of every step.
        momentum: of SGD; it begins anew in every round.
    """

    epochs: int = 1
    batch_size: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.0

    def run(
        self, network: PrototypeNetwork, samples: Images, loss: Loss, generator: torch.Generator
    ) -> ClassStatistics:
        """Train a network in place.

        Args:
            network: of the client.
            samples: of the client.
            loss: to be minimised, with what a bottleneck in the network adds to it.
            generator: draws the batches; its seed is that of what layers draw as well.

        Returns:
            statistics of the features as they were during the training, over all its epochs: those of a
            moving encoder, with batch normalisation by batch. The public code of FedProto has those of the
            last epoch, which is the same for one.

        Raises:
            FederationError: the loss is not finite.
        """
        network.train()
        optimiser = torch.optim.SGD(network.parameters(), self.learning_rate, momentum=self.momentum)
        passed: list[Tensor] = []
        owners: list[Tensor] = []
        # What layers draw, such as dropout, comes of torch's own generator: the same on every engine.
        with torch.random.fork_rng():
            torch.manual_seed(generator.initial_seed())
            for _ in range(self.epochs):
                for batch in batches(samples, self.batch_size, generator):
                    optimiser.zero_grad()
                    features, cost = network.weighed(batch.inputs)
                    value = loss(features, network.head(features), batch.labels) + cost
                    if not bool(torch.isfinite(value)):
                        said = f"the loss is {float(value.detach()):g}"
                        raise FederationError(f"{said}; lower the learning rate")
                    value.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    passed.append(features.detach())
                    owners.append(batch.labels)
        network.eval()
        return ClassStatistics.of(torch.cat(passed).numpy(), torch.cat(owners).numpy())

    @staticmethod
    def statistics(network: PrototypeNetwork, samples: Images) -> ClassStatistics:
        """Statistics of the features of a network that is trained, in evaluation mode."""
        return ClassStatistics.of(features_of(network, samples.pixels).numpy(), samples.labels.numpy())


class TrainedLocally(FederatedMethod):
    """A method whose step on the client is a local training.

    The step is cut in three, so that the training between :meth:`begin` and :meth:`finish` may be that of
    many clients at once (:mod:`fedsim.federated.vectorised`).
    """

    training: LocalTraining
    #: Whether that gives the same result: clients that minimise the same have one loss, the same object, and
    #: what it says depends on its three arguments alone.
    together: ClassVar[bool] = False

    @abstractmethod
    def begin(self, site: Site, client: Client, packet: Packet) -> LocalTask:
        """What the client trains in this round."""

    @abstractmethod
    def finish(self, site: Site, client: Client, task: LocalTask, statistics: ClassStatistics) -> Packet:
        """What the client replies.

        Args:
            site: of the run.
            client: that has trained.
            task: whose network has been trained, and is in evaluation mode.
            statistics: of the features during the training.
        """

    def step(self, site: Site, client: Client, packet: Packet) -> Packet:
        """Begin, train, finish."""
        task = self.begin(site, client, packet)
        statistics = self.training.run(task.network, task.samples, task.loss, task.generator)
        return self.finish(site, client, task, statistics)

    def work(self, site: Site, partition: int, samples: int) -> Work:
        """The training."""
        layers = layers_of_client(site, partition)
        return Work.training(layers, samples, self.training.epochs, self.training.batch_size)
