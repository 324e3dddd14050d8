"""How a server trains an embedding on the classes that it knows, before anybody goes out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedsim.errors import FederationError
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.site import Site
from fedsim.progress import Display
from fedsim.training.classifier import train_classifier
from fedsim.training.loop import Images

__all__ = ["Pretraining"]


@dataclass(frozen=True)
class Pretraining:
    """Training of a classifier of the base classes, whose features then serve for all classes.

    Args:
        epochs: passes over the base samples.
        batch_size: samples a step.
        learning_rate: of Adam.
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 1e-3

    def trained(self, site: Site, display: Display | None = None) -> PrototypeNetwork:
        """The site's first network, trained, in evaluation mode.

        Raises:
            FederationError: the server has no base samples.
        """
        if not len(site.base):
            raise FederationError("the server has no base samples to train an embedding on")
        network, base = site.network(0), torch.from_numpy(site.base)
        display = display or Display(quiet=True)
        with torch.random.fork_rng(), display.task("training the embedding", self.epochs) as task:
            torch.manual_seed(site.seed)
            train_classifier(
                network,
                Images(site.images[base], site.labels[base]),
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                generator=torch.Generator().manual_seed(site.seed),
                task=task,
            )
        return network
