"""Data flow through a network, traced with ``torch.fx`` no deeper than a cut needs."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

__all__ = ["Flow", "TraceError", "modes_set"]


class TraceError(ValueError):
    """A network whose data flow cannot be followed. The message says why."""


@contextmanager
def modes_set(module: nn.Module, training: bool) -> Iterator[None]:
    """Put every part of a module into one mode, and afterwards each back into its own."""
    modes = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = training
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@dataclass(frozen=True)
class Flow:
    """The graph of a network in which all modules are whole but those that enclose some layer.

    Args:
        network: what was traced.
        graph: its nodes; a module call refers to a module by its name in the network.
        targets: the modules, parameters and constants that the nodes refer to.
    """

    network: nn.Module
    graph: fx.Graph
    targets: dict[str, Any]

    @classmethod
    def trace(cls, network: nn.Module, layers: Iterable[str] = ()) -> Flow:
        """Follow one input through ``network``, looking only into what encloses ``layers``.

        Raises:
            TraceError: its Python code depends on values, on the mode, or works in place.
        """
        opened = {network}
        for name in layers:
            parts = name.split(".")
            opened |= {network.get_submodule(".".join(parts[:depth])) for depth in range(1, len(parts))}
        graph, targets = _traced(network, opened, training=False)
        if str(_traced(network, opened, training=True)[0]) != str(graph):
            raise TraceError("its forward differs between training and evaluation (functional dropout?)")
        for node in graph.nodes:
            if not node.users and _works_in_place(node):
                raise TraceError(f"its forward works in place ({node.name})")
        return cls(network, graph, targets)

    @property
    def input(self) -> fx.Node:
        """The node of the network's input."""
        return self._only("placeholder")

    @property
    def output(self) -> fx.Node:
        """The node that returns the network's output."""
        return self._only("output")

    def calls(self) -> dict[str, fx.Node]:
        """The node of each module that is called exactly once and returns one value, in calling order."""
        nodes = [node for node in self.graph.nodes if node.op == "call_module"]
        count = Counter(str(node.target) for node in nodes)
        return {str(n.target): n for n in nodes if count[str(n.target)] == 1 and not _is_tuple(n)}

    def ahead_of(self, node: fx.Node) -> set[fx.Node]:
        """All nodes that lead to ``node``, and itself."""
        return _closure(node, lambda n: n.all_input_nodes)

    def crossing(self, node: fx.Node) -> list[fx.Node]:
        """Other values that depend on the input, come from ahead of ``node``, and are used behind it."""
        moving = _closure(self.input, lambda n: list(n.users))
        ahead = (self.ahead_of(node) | {self.input}) & moving
        found = _closure(self.output, lambda n: [] if n in ahead else n.all_input_nodes)
        return [n for n in self.graph.nodes if n in found & ahead and n is not node]

    def upto(self, node: fx.Node) -> fx.GraphModule:
        """The part that computes ``node``."""
        return self._part(self.ahead_of(node) | {self.input}, node)

    def behind(self, node: fx.Node) -> fx.GraphModule:
        """The part that computes the output from ``node``, which nothing else may cross."""
        needed = _closure(self.output, lambda n: [] if n is node else n.all_input_nodes)
        (result,) = self.output.all_input_nodes
        for user in list(node.users):
            self._keep_input(user)
        return self._part(needed - {self.output}, result, replaced=node)

    def _only(self, op: str) -> fx.Node:
        node: fx.Node = next(iter(self.graph.find_nodes(op=op)))
        return node

    def _part(self, nodes: set[fx.Node], result: fx.Node, replaced: fx.Node | None = None) -> fx.GraphModule:
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        if replaced is not None:
            copies[replaced] = graph.placeholder("features")
        for node in self.graph.nodes:
            if node in nodes and node is not replaced:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(copies[result])
        used = {str(n.target) for n in graph.nodes if n.op in {"call_module", "get_attr"}}
        part = fx.GraphModule({name: self.targets[name] for name in used}, graph, type(self.network).__name__)
        originals = dict(self.network.named_modules(remove_duplicate=False))
        for name, module in part.named_modules(remove_duplicate=False):
            module.training = originals[name].training
        return part

    def _keep_input(self, user: fx.Node) -> None:
        """Let a first layer that works in place not overwrite what it is given."""
        if user.kwargs.get("inplace") is True:
            user.update_kwarg("inplace", False)
        if user.op == "call_module":
            module = self.targets[str(user.target)]
            while isinstance(module, nn.Sequential) and len(module):
                module = module[0]
            if getattr(module, "inplace", False) is True:
                module.inplace = False


class _Tracer(fx.Tracer):
    """Looks into the given modules only, and passes one input to the root."""

    def __init__(self, opened: set[nn.Module]) -> None:
        super().__init__()
        self._opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self._opened

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        # The base class would make an input of each optional argument as well.
        return root_fn, [self.root, self.create_proxy("placeholder", "images", (), {})]


def _traced(network: nn.Module, opened: set[nn.Module], training: bool) -> tuple[fx.Graph, dict[str, Any]]:
    before = set(vars(network))
    try:
        with modes_set(network, training):
            graph = _Tracer(opened).trace(network)
        names = [str(node.target) for node in graph.nodes if node.op in {"call_module", "get_attr"}]
        return graph, {name: operator.attrgetter(name)(network) for name in names}
    except Exception as error:  # whatever the network's own code does with a symbolic value
        raise TraceError(f"torch.fx cannot trace it: {error}") from error
    finally:
        for constant in set(vars(network)) - before:  # the tracer leaves its constants on the network
            delattr(network, constant)


def _closure(start: fx.Node, following: Callable[[fx.Node], list[fx.Node]]) -> set[fx.Node]:
    reached = {start}
    pending = [start]
    while pending:
        new = set(following(pending.pop())) - reached
        reached |= new
        pending.extend(new)
    return reached


def _works_in_place(node: fx.Node) -> bool:
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    return node.target is operator.setitem


def _is_tuple(node: fx.Node) -> bool:
    """Whether a value is taken apart by position, as a tensor [N, ...] never is."""
    return any(u.target is operator.getitem and isinstance(u.args[1], int) for u in node.users)
