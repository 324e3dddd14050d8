"""Cutting a network at a named layer, and the model that is cut.

::

    images --head--> features --bottleneck--> features' --tail--> logits
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from edge.bottlenecks.base import Bottleneck
from edge.graphs import Flow, TraceError, modes_set

__all__ = [
    "INPUT",
    "OUTPUT",
    "CutError",
    "SplitModel",
    "count_macs",
    "cut",
    "cuttable",
    "macs_of",
    "parameters_of",
]

#: Names of the two places to cut that are no layers: ahead of the network and behind it.
INPUT, OUTPUT = "input", "output"

T = TypeVar("T")


class CutError(ValueError):
    """A network that cannot be cut where it was asked to be. The message says why, and where it can."""


class SplitModel(nn.Module):
    """Head, bottleneck and tail in one process: for training and for evaluation.

    Args:
        head: what runs on the device ahead of the bottleneck.
        bottleneck: what stands at the cut; None where the whole network runs on the device.
        tail: what runs on the server behind the bottleneck.
    """

    def __init__(self, head: nn.Module, bottleneck: Bottleneck | None, tail: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.bottleneck = bottleneck
        self.tail = tail

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiable pass.

        Args:
            images: [N, C, H, W], values 0..1.

        Returns:
            logits [N, classes] and the estimated information sent for each sample, in bits, [N].
        """
        features = self.head(images)
        if self.bottleneck is None:
            return self.tail(features), features.new_zeros(len(features))
        reconstruction, bits = self.bottleneck(features)
        return self.tail(reconstruction), bits

    def transmit(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of what the server would see of images [N, C, H, W]."""
        features = self.head(images)
        logits: Tensor = self.tail(
            features if self.bottleneck is None else self.bottleneck.transmit(features)
        )
        return logits


def cut(network: nn.Module, at: str, *, entry: str | None = None) -> tuple[nn.Module, nn.Module]:
    """Cut a network in two at the value that a named layer produces.

    The halves share the network's modules and parameters, under the names that they have there, and
    hold none but their own. Only the modules that enclose the cut are traced (``torch.fx``); every
    other one stays whole, so what it does while training it goes on doing.

    Args:
        network: any module with one input.
        at: a layer as in ``named_modules``; ``"input"`` leaves the whole network to the tail,
            ``"output"`` to the head.
        entry: where the head ends, if not at ``at``. The bottleneck then replaces what lies between:
            in the Entropic Student ``entry="input", at="layer1"``.

    Returns:
        head (images to the value at ``entry``) and tail (the value at ``at`` to logits).

    Raises:
        CutError: no such layer; a layer that is not called exactly once, or within a module that
            cannot be traced; another value would cross the cut; ``entry`` is not ahead of ``at``,
            or one of them encloses the other.
    """
    entry = at if entry is None else entry
    layers = [name for name in dict.fromkeys((entry, at)) if name not in {INPUT, OUTPUT}]
    for name in layers:
        _check_layer(network, name)
    _check_apart(network, entry, at)
    try:
        flow = Flow.trace(network, layers) if layers else None
    except TraceError as error:
        raise _refused(network, " and ".join(map(repr, layers)), str(error)) from error
    if entry != at and not _is_ahead(network, flow, entry, at):
        raise CutError(f"entry {entry!r} does not lie ahead of the cut at {at!r} in {_title(network)}")
    if flow is not None and at not in {INPUT, OUTPUT}:
        end = _node(network, flow, at)
        if crossing := flow.crossing(end):
            values = ", ".join(map(_described, crossing))
            raise _refused(network, repr(at), f"more than one value crosses the cut: besides it {values}")
        tail: nn.Module = flow.behind(end)
    else:
        tail = network if at == INPUT else nn.Identity()
    if flow is not None and entry not in {INPUT, OUTPUT}:
        head: nn.Module = flow.upto(_node(network, flow, entry))
    else:
        head = network if entry == OUTPUT else nn.Identity()
    return head, tail


def cuttable(network: nn.Module) -> list[str]:
    """Where a network can be cut: ``"input"``, the layers that one value leads through, ``"output"``."""
    return [INPUT, *_cuttable_layers(network, network, ""), OUTPUT]


def parameters_of(module: nn.Module) -> int:
    """Number of parameters of a module, each counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs_of(module: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-accumulate operations of a module for one sample (2 FLOP = 1 MAC).

    Convolutions, matrix products and attention count (``torch.utils.flop_counter``), others do not.

    Args:
        module: takes a batch [N, *shape].
        shape: of one sample.
    """
    like = next(module.parameters(), torch.empty(0))
    with modes_set(module, False):
        return count_macs(lambda: module(torch.zeros(1, *shape, device=like.device)))[1]


def count_macs(run: Callable[[], T]) -> tuple[T, int]:
    """What ``run()`` returns, and the multiply-accumulate operations that it took."""
    # A device never counts, so it does not load these.
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused kernels go uncounted
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            result = run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return result, int(counter.get_total_flops()) // 2


def _check_layer(network: nn.Module, name: str) -> None:
    modules = dict(network.named_modules(remove_duplicate=False))
    if not name or name not in modules:
        near = difflib.get_close_matches(name, cuttable(network), n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise CutError(f"{_title(network)} has no layer {name!r}{hint}{_where(network)}")
    aliases = [other for other, module in modules.items() if module is modules[name]]
    if len(aliases) > 1:
        raise _refused(network, repr(name), f"the module is shared, as {', '.join(aliases)}")


def _check_apart(network: nn.Module, entry: str, at: str) -> None:
    """Refuse layers of which one encloses the other: no part of the network lies between them."""
    if entry.startswith(f"{at}."):
        where = f"entry {entry!r} lies inside the layer at the cut, {at!r}; name a layer ahead of that one"
    elif at.startswith(f"{entry}."):
        where = f"the cut at {at!r} lies inside the layer at entry, {entry!r}; name a layer behind that one"
    else:
        return
    raise CutError(f"{where}{_where(network)}")


def _node(network: nn.Module, flow: Flow, name: str) -> fx.Node:
    node = flow.calls().get(name)
    if node is None:
        raise _refused(network, repr(name), "it is not called exactly once for one value")
    return node


def _is_ahead(network: nn.Module, flow: Flow | None, entry: str, at: str) -> bool:
    if flow is None or INPUT in {entry, at} or OUTPUT in {entry, at}:
        return entry == INPUT or at == OUTPUT
    return _node(network, flow, entry) in flow.ahead_of(_node(network, flow, at))


def _cuttable_layers(network: nn.Module, module: nn.Module, prefix: str) -> Iterator[str]:
    """Layers of ``module``, of which ``prefix`` is the name in ``network``, in calling order."""
    try:
        flow = Flow.trace(module)
    except TraceError:
        return
    names = list(map(id, dict(network.named_modules(remove_duplicate=False)).values()))
    for name, node in flow.calls().items():
        child = flow.targets[name]
        if names.count(id(child)) > 1 or flow.crossing(node):
            continue
        if len(node.args) == 1 and not node.kwargs and any(True for _ in child.children()):
            yield from _cuttable_layers(network, child, f"{prefix}{name}.")
        yield prefix + name


def _refused(network: nn.Module, place: str, reason: str) -> CutError:
    return CutError(f"cannot cut {_title(network)} at {place}: {reason}{_where(network)}")


def _where(network: nn.Module) -> str:
    return f"; it can be cut at {', '.join(cuttable(network))}"


def _title(network: nn.Module) -> str:
    return "the network" if type(network) is nn.Sequential else type(network).__name__


def _described(node: fx.Node) -> str:
    if node.op == "placeholder":
        return "the network's input"
    if node.op == "call_module":
        return f"the output of {str(node.target)!r}"
    return f"the result of {node.name}"
