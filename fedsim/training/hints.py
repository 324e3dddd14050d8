"""Where a student is compared with its teacher: the outputs of the layers from the cut onwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx, nn

from edge.split import INPUT, OUTPUT

__all__ = ["Hints"]


class Hints:
    """Hint layers: the cut itself, and every later layer with parameters that gives feature maps.

    For a ResNet cut at ``layer1`` these are the outputs of ``layer1`` to ``layer4``: the hints of the
    Entropic Student and of BottleFit. Where no later layer gives feature maps it is the cut alone; at
    ``"output"`` that is the logits.

    Args:
        teacher: the uncut network, in eval mode.
        tail: the student's tail, cut from a network of the same architecture.
        at: the layer at which it was cut; ``"input"`` or ``"output"`` for none.
        example: one input [1, C, H, W], to see which layers give feature maps [N, C, H, W].
    """

    def __init__(self, teacher: nn.Module, tail: nn.Module, at: str, example: Tensor) -> None:
        self._teacher = teacher
        self._tail = tail
        self._at = at
        candidates = [name for name in _direct_layers(tail) if _has_parameters(tail.get_submodule(name))]
        with torch.no_grad(), _outputs(teacher, candidates) as outputs:
            teacher(example)
        self.layers = [name for name in candidates if outputs[name].ndim == 4]

    def of_images(self, images: Tensor) -> list[Tensor]:
        """The teacher's outputs at the cut and at the hint layers for images [N, C, H, W]."""
        between = [] if self._at in {INPUT, OUTPUT} else [self._at]
        with _outputs(self._teacher, [*between, *self.layers]) as outputs:
            outputs[OUTPUT] = self._teacher(images)
        outputs[INPUT] = images
        return [outputs[name] for name in (self._at, *self.layers)]

    def of_reconstruction(self, reconstruction: Tensor) -> list[Tensor]:
        """The student's: the reconstruction at the cut, and what its tail makes of it."""
        if not self.layers:
            return [reconstruction]
        with _outputs(self._tail, self.layers) as outputs:
            self._tail(reconstruction)
        return [reconstruction, *(outputs[name] for name in self.layers)]


def _direct_layers(tail: nn.Module) -> list[str]:
    """The layers that a tail calls itself, in order."""
    if isinstance(tail, fx.GraphModule):
        return [str(node.target) for node in tail.graph.nodes if node.op == "call_module"]
    return [name for name, _ in tail.named_children()]


@contextmanager
def _outputs(network: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """What the named layers return while inside."""
    outputs: dict[str, Tensor] = {}

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            outputs[name] = output

        return network.get_submodule(name).register_forward_hook(keep)

    handles = [hook(name) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
