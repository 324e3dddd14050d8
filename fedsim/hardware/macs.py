"""The work of a network layer by layer: multiply-accumulates, and the bytes that it moves.

Operators are what counts, not modules: a generalised divisive normalisation that calls ``conv2d`` by
itself, or attention written out as matrix products, is work of no module that a list of known ones holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

from edge.graphs import modes_set
from edge.split import count_macs
from fedsim.hardware.compute import Layer

__all__ = ["count_layers", "layers_of"]

T = TypeVar("T")

#: Operators that take memory without writing to it.
_ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


def layers_of(module: nn.Module, shape: Sequence[int], item_bytes: int | None = None) -> list[Layer]:
    """The layers that a module runs for one sample; their MACs add up to :func:`edge.split.macs_of`.

    Args:
        module: takes a batch [N, *shape].
        shape: of one sample.
        item_bytes: size of a number where the network shall run in another precision than it is here (1
            for int8); None takes the sizes of the tensors.
    """
    like = next(module.parameters(), torch.empty(0))
    batch = like.new_zeros(1, *shape)
    with modes_set(module, False):
        return count_layers(lambda: module(batch), item_bytes)[1]


def count_layers(run: Callable[[], T], item_bytes: int | None = None) -> tuple[T, list[Layer]]:
    """What ``run()`` returns, and the layers that it took, in the order in which they ran.

    A layer is one operator: a convolution, a product, and also what only moves bytes (an activation, a
    sum). Views of a tensor cost nothing and are no layers. A layer's bytes are those of its operands and
    of its results, each of them read or written once.

    Args:
        run: calls a network.
        item_bytes: as in :func:`layers_of`.

    Raises:
        ValueError: ``item_bytes`` below 1.
    """
    if item_bytes is not None and item_bytes < 1:
        raise ValueError(f"item_bytes is {item_bytes}, and has to be 1 or more")
    recorder = _Recorder(item_bytes)

    def recorded() -> T:
        with recorder.modules, recorder:
            return run()

    result, _ = count_macs(recorded)  # which keeps fused kernels from running, where nothing is counted
    return result, recorder.layers


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, item_bytes: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[Layer] = []
        self.modules = ModuleTracker()
        self._item_bytes = item_bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        result, macs = count_macs(lambda: func(*args, **given))
        operands, results = _tensors((args, given)), _tensors(result)
        name = func.overloadpacket.__name__
        if macs or not (name in _ALLOCATIONS or _is_view(func, operands, results)):
            moved = sum(t.numel() * (self._item_bytes or t.element_size()) for t in operands + results)
            if macs or moved:
                self.layers.append(Layer(macs, moved, f"{self._where()}{name}"))
        return result

    def _where(self) -> str:
        """The innermost module that runs, named from inside the network, and a dot; empty outside of it."""
        names = [name.partition(".")[2] for name in self.modules.parents]
        return max((f"{name}." for name in names if name), key=len, default="")


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _is_view(func: Any, operands: Sequence[Tensor], results: Sequence[Tensor]) -> bool:
    """Whether the results are operands under another shape; what writes into an operand is no view."""
    if any(one.alias_info is not None and one.alias_info.is_write for one in func._schema.arguments):
        return False
    held = {operand.untyped_storage().data_ptr() for operand in operands}
    return all(result.untyped_storage().data_ptr() in held for result in results)
