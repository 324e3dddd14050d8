"""What a client's step asks of its processor: which layers samples pass, how often, and in what batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from torch import nn

from fedsim.federated.site import Site
from fedsim.hardware.compute import Layer, Roofline
from fedsim.hardware.macs import layers_of

__all__ = ["TRAINING_PASSES", "Work", "layers_of_client"]

#: Forward passes that training on a sample is worth: the backward pass takes twice the work of the forward
#: one. As FedScale has it (Lai et al., ICML 2022; fedscale/cloud/internal/client_metadata.py).
TRAINING_PASSES: Final = 3

_CHUNK = 512  # samples at a time that only go forward, as features_of takes them


@dataclass(frozen=True)
class Work:
    """One step of one client.

    Args:
        layers: of a forward pass of one sample.
        trained: samples that go forward and backward, each as often as it does.
        steps: batches that they go in.
        seen: samples that only go forward.
        batches: that those go in.
    """

    layers: tuple[Layer, ...]
    trained: int = 0
    steps: int = 0
    seen: int = 0
    batches: int = 0

    @classmethod
    def training(cls, layers: tuple[Layer, ...], samples: int, epochs: int, batch_size: int) -> Work:
        """Epochs of gradient descent, in batches as :func:`fedsim.training.loop.batches` makes them."""
        whole, rest = divmod(samples, batch_size)
        alone = rest == 1 and whole > 0 and batch_size > 1  # a last batch of one is joined to that before it
        return cls(layers, trained=epochs * samples, steps=epochs * (whole + (rest > 0) - alone))

    def and_seen(self, samples: int) -> Work:
        """The same, and a forward pass of so many samples."""
        return replace(self, seen=self.seen + samples, batches=self.batches + -(-samples // _CHUNK))

    def seconds(self, roofline: Roofline) -> float:
        """Time on a device.

        The device's overheads, of an inference and of each of its layers, are those of a batch, however many
        samples it has; arithmetic and memory are those of each sample.
        """
        overhead = roofline.overhead_s + len(self.layers) * roofline.layer_s
        each = replace(roofline, overhead_s=0.0, layer_s=0.0).seconds(self.layers)
        calls = TRAINING_PASSES * self.steps + self.batches
        passes = TRAINING_PASSES * self.trained + self.seen
        return calls * overhead + passes * each


def layers_of_client(site: Site, partition: int, *, head: bool = True) -> tuple[Layer, ...]:
    """Layers of a forward pass of a client's network, counted once for each network.

    Args:
        site: of the run.
        partition: of the client.
        head: with the classifier behind the prototype space.
    """
    number = site.shares[partition].network

    def counted() -> tuple[Layer, ...]:
        network = site.network(number)
        module = network if head else nn.Sequential(network.encoder, nn.Flatten(1), network.adapter)
        return tuple(layers_of(module, site.dataset.image_shape))

    found: tuple[Layer, ...] = site.kept(("layers", number, head), counted)
    return found
