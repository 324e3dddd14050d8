"""Networks with a prototype space: what clients of different backbones have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge import backbones
from edge.blueprint import ModelSpec, build
from edge.bottlenecks import Bottleneck
from edge.split import OUTPUT, cut, cuttable
from fedsim.errors import ModelError

__all__ = ["PrototypeNetwork", "SplitEncoder", "prototype_network"]


class SplitEncoder(nn.Module):
    """An encoder that is split between a device and a server, with a bottleneck at the cut.

    ::

        images --head--> features --bottleneck--> features' --rest of the tail--> points

    Args:
        head: of the device.
        bottleneck: at the cut.
        tail: of the server, without its classifier.
        beta: weight of the bottleneck's rate in training, in nats a bit.
    """

    def __init__(self, head: nn.Module, bottleneck: Bottleneck, tail: nn.Module, beta: float) -> None:
        super().__init__()
        self.head = head
        self.bottleneck = bottleneck
        self.tail = tail
        self.beta = beta

    def forward(self, images: Tensor) -> Tensor:
        """Points [n, ...] of images [n, C, H, W]; in evaluation mode of what the server would see."""
        if self.training:
            return self.weighed(images)[0]
        points: Tensor = self.tail(self.bottleneck.transmit(self.head(images)))
        return points

    def weighed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Points [n, ...] of a differentiable pass, and what the bottleneck adds to the loss, a scalar."""
        made = self.bottleneck.training_pass(self.head(images))
        return self.tail(made.reconstruction), self.beta * made.rate.mean() + made.penalty.mean()


class PrototypeNetwork(nn.Module):
    """An encoder into the prototype space, and a linear classifier behind it.

    ::

        images --encoder--> flatten --adapter--> features [n, d] --head--> logits [n, classes]

    Args:
        encoder: from images to anything [n, ...].
        width: values of a sample that it gives.
        classes: length of the logits.
        dimension: d; by default the encoder's own width, with no adapter. Clients of different backbones
            share prototypes through a linear adapter each (HtFLlib).
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int, dimension: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.dimension = width if dimension is None else dimension
        self.adapter: nn.Module = nn.Identity() if dimension is None else nn.Linear(width, dimension)
        self.head = nn.Linear(self.dimension, classes)

    def features(self, images: Tensor) -> Tensor:
        """Points of the prototype space [n, d] for images [n, C, H, W]."""
        points: Tensor = self.adapter(self.encoder(images).flatten(1))
        return points

    def weighed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`features`, and what a bottleneck on the way adds to the loss: a scalar, 0 without one."""
        if not isinstance(self.encoder, SplitEncoder):
            return self.features(images), images.new_zeros(())
        points, cost = self.encoder.weighed(images)
        return self.adapter(points.flatten(1)), cost

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def prototype_network(
    backbone: str,
    arguments: Mapping[str, Any],
    image_shape: Sequence[int],
    classes: int,
    dimension: int | None = None,
    *,
    layer: str | None = None,
    bottleneck: Mapping[str, Any] | None = None,
) -> PrototypeNetwork:
    """A backbone whose last layers with parameters, its classifier, make room for a prototype space.

    Args:
        backbone: a name of :func:`edge.backbones.create`.
        arguments: of the backbone.
        image_shape: (C, H, W).
        classes: length of the logits.
        dimension: of the prototype space; by default what the backbone's classifier takes.
        layer: behind which a bottleneck stands (:func:`edge.split.cut`).
        bottleneck: its ``name`` and arguments, and as ``beta`` the weight of its rate in training, by
            default 0. It is trained with the rest of the network.

    Raises:
        ModelError: a network that cannot be made, or does not take the images.
    """
    if (layer is None) != (bottleneck is None):
        raise ModelError(f"backbone {backbone!r}: a cut and a bottleneck go together")
    try:
        if layer is None or bottleneck is None:
            encoder = _encoder(backbones.create(backbone, **arguments))
        else:
            encoder = _split_encoder(backbone, arguments, image_shape, layer, bottleneck)
        with torch.no_grad():
            encoder.eval()
            width = encoder(torch.zeros(1, *image_shape)).flatten(1).shape[1]
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"backbone {backbone!r}: {error}") from error
    return PrototypeNetwork(encoder.train(), width, classes, dimension)


def _split_encoder(
    backbone: str,
    arguments: Mapping[str, Any],
    image_shape: Sequence[int],
    layer: str,
    bottleneck: Mapping[str, Any],
) -> SplitEncoder:
    """A backbone with a bottleneck behind one of its layers, and without its classifier."""
    options = dict(bottleneck)
    name, beta = options.pop("name", None), options.pop("beta", None)
    if not isinstance(name, str):
        raise ValueError(f"a bottleneck needs its name, a text; it is {name!r}")
    spec = ModelSpec(
        name=backbone,
        network=backbone,
        network_arguments=dict(arguments),
        cut=layer,
        entry=None,
        input_shape=tuple(image_shape),
        bottleneck=name,
        bottleneck_arguments=options,
        rate=beta,
    )
    model = build(spec)
    assert model.bottleneck is not None
    model.bottleneck.prepare_training()
    return SplitEncoder(model.head, model.bottleneck, _encoder(model.tail), 0.0 if beta is None else beta)


def _encoder(network: nn.Module) -> nn.Module:
    """All ahead of the classifier, which is a linear layer that nothing else to be trained stands behind."""
    for name in reversed(cuttable(network)):
        head, tail = cut(network, name)
        trained = [m for m in tail.modules() if list(m.parameters(recurse=False))]
        if trained:
            if len(trained) == 1 and isinstance(trained[0], nn.Linear):
                return head
            break
    return cut(network, OUTPUT)[0]
