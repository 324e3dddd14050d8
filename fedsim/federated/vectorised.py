"""Many small models trained at once: one pass of PyTorch's for the same step of many clients.

A small network keeps a processor busy with calling and hardly with computing. Clients of equal networks take
the same steps on other numbers, so their values are stacked and a step of all of them is one
(``torch.func.vmap``)::

    values [clients, ...], batches [clients, n, ...] --vmap(network, loss)--> losses [clients] --SGD--> values

Every client sees the batches that it would have seen alone, in the same order. Where some have a batch of
another size, those of one size take the step together, so nothing is padded or masked, and statistics of
batch normalisation are exact. What comes out is that of :class:`~fedsim.federated.local.LocalTraining` up to
rounding, for convolutions are computed in another order: in float32 values differ by some 1e-7 after a local
epoch. Once in some millions a value lies so near to the kink of a ReLU that rounding decides on its side; of
that client they differ by 1e-4, say. So a run that trains at once is not bit for bit that of other engines.

It pays where networks are small: six to eight times for some thousands of weights, hardly for a million.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from flwr.app import Context, Message
from torch import Tensor, nn
from torch.func import functional_call, vmap

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError
from fedsim.federated.clients import ROUND, Provider, client_of
from fedsim.federated.grid import Batched
from fedsim.federated.local import LocalTask, LocalTraining, Loss, TrainedLocally
from fedsim.federated.method import Client
from fedsim.federated.networks import PrototypeNetwork, SplitEncoder
from fedsim.federated.site import Site
from fedsim.training.loop import Batch, Images, batches

__all__ = ["obstacle", "train_batched", "train_together"]

#: Clients at once: with more, their values and activations leave the processor's caches.
BLOCK = 64

_WRAPPED = "network."
Values = dict[str, Tensor]


def obstacle(network: nn.Module) -> str | None:
    """Why copies of a network cannot be trained at once; None where they can."""
    for name, module in network.named_modules():
        if isinstance(module, SplitEncoder):
            return f"{name} has a bottleneck, which adds to the loss"
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p:
            return f"{name} draws random numbers (dropout), which would be others than one at a time"
        normalises = isinstance(module, nn.modules.batchnorm._NormBase)
        if normalises and module.track_running_stats and module.momentum is None:
            return f"{name} averages over all batches so far (batch normalisation without a momentum)"
    return None


def train_together(
    network: PrototypeNetwork,
    states: Sequence[Mapping[str, Tensor]],
    samples: Sequence[Images],
    loss: Loss,
    training: LocalTraining,
    generators: Sequence[torch.Generator],
) -> tuple[list[Values], list[ClassStatistics]]:
    """Train a network from many states, on the samples of one client each.

    Memory grows with the number of clients: hand in some tens at once.

    Args:
        network: whose values are left as they are; it ends in evaluation mode.
        states: values that each client begins with, as ``network.state_dict()``.
        samples: of each client.
        loss: of every client; it has to be one that ``torch.func.vmap`` takes: no ``if`` on values.
        training: as for one client.
        generators: that draw the batches of each client.

    Returns:
        for each client the values behind the training, and the statistics of the features during it, as
        :meth:`LocalTraining.run` says.

    Raises:
        FederationError: other numbers of states, samples and generators; a client without samples; a network
            whose copies cannot be trained at once; a loss that is not finite.
    """
    _check(network, states, samples, generators)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    values = {_WRAPPED + name: torch.stack([state[name] for state in states]) for name in states[0]}
    parameters = {_WRAPPED + name: values.pop(_WRAPPED + name) for name in trained}
    fleet = _Fleet(_Step(network, loss), parameters, values, training)
    seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in states]
    network.train()
    try:
        for clients, group in _steps(samples, training, generators):
            features = fleet.step(clients, group)
            for client, points, batch in zip(clients, features, group, strict=True):
                seen[client].append((points, batch.labels))
    finally:
        network.eval()
    statistics = [
        ClassStatistics.of(
            torch.cat([points for points, _ in one]).numpy(), torch.cat([owners for _, owners in one]).numpy()
        )
        for one in seen
    ]
    return [{name: found[_WRAPPED + name] for name in states[0]} for found in fleet.values()], statistics


def train_batched(provide: Provider) -> Batched:
    """For :class:`~fedsim.federated.grid.InlineGrid`: clients that have the same to minimise train at once.

    Left to the ClientApp, one at a time, are clients whose method or network does not allow it, those that
    nobody shares a loss with, those whose time is taken, and those of whom anything went wrong: what is
    wrong with a client is then said of this client.

    Args:
        provide: as for the ClientApp.
    """

    def answered(asked: Sequence[tuple[int, Message, Context]]) -> list[Message | None]:
        replies: list[Message | None] = []
        for start in range(0, len(asked), BLOCK):
            replies += _block_answered(provide, asked[start : start + BLOCK])
        return replies

    return answered


@dataclass(frozen=True)
class _Begun:
    """A client whose training is about to begin."""

    place: int
    site: Site
    method: TrainedLocally
    client: Client
    task: LocalTask
    state: Values


def _block_answered(provide: Provider, asked: Sequence[tuple[int, Message, Context]]) -> list[Message | None]:
    groups: dict[tuple[int, int, LocalTraining], list[_Begun]] = {}
    for place, (_, message, context) in enumerate(asked):
        begun = _begun(provide, place, message, context)
        if begun is not None:
            same = id(begun.task.network), id(begun.task.loss), begun.method.training
            groups.setdefault(same, []).append(begun)
    replies: list[Message | None] = [None] * len(asked)
    for group in groups.values():
        if len(group) < 2:
            continue
        first = group[0].task
        try:
            states, statistics = train_together(
                first.network,
                [one.state for one in group],
                [one.task.samples for one in group],
                first.loss,
                group[0].method.training,
                [one.task.generator for one in group],
            )
        except Exception:
            continue  # whoever is at fault says so when it trains by itself
        for one, state, found in zip(group, states, statistics, strict=True):
            replies[one.place] = _finished(one, state, found, asked[one.place][1])
    return replies


def _finished(one: _Begun, state: Values, statistics: ClassStatistics, message: Message) -> Message | None:
    """The reply of a client that has trained; what it keeps is as before where there is none."""
    before = dict(one.client.kept)
    try:
        one.task.network.load_state_dict(state)
        packet = one.method.finish(one.site, one.client, one.task, statistics)
        return Message(packet.content(), reply_to=message)
    except Exception:
        one.client.kept.clear()
        one.client.kept.update(before)
        return None  # it says why when it is asked by itself


def _begun(provide: Provider, place: int, message: Message, context: Context) -> _Begun | None:
    """A client that may train with others."""
    try:
        site, method = provide(context)
        if not isinstance(method, TrainedLocally) or not method.together:
            return None
        if message.content[ROUND].get("timed"):
            return None
        client, packet = client_of(site, message, context)
        task = method.begin(site, client, packet)
        if obstacle(task.network) is not None:
            return None
    except Exception:
        return None  # the client says why when it is asked by itself
    state = {name: value.clone() for name, value in task.network.state_dict().items()}
    return _Begun(place, site, method, client, task, state)


class _Step(nn.Module):
    """A network with its loss, of one client."""

    def __init__(self, network: PrototypeNetwork, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the features [n, d]."""
        features = self.network.features(inputs)
        return self._loss(features, self.network.head(features), labels), features


class _Fleet:
    """Values of many clients, each a tensor [clients, ...], that take steps of SGD with momentum."""

    def __init__(self, step: _Step, parameters: Values, others: Values, training: LocalTraining) -> None:
        self._parameters = parameters
        self._others = others
        self._training = training
        self._momenta = {name: torch.zeros_like(value) for name, value in parameters.items()}

        def forward(parameters: Values, others: Values, *batch: Tensor) -> tuple[Tensor, Tensor]:
            made: tuple[Tensor, Tensor] = functional_call(step, {**parameters, **others}, batch)
            return made

        self._forward: Callable[..., tuple[Tensor, Tensor]] = vmap(forward)

    def step(self, clients: Sequence[int], group: Sequence[Batch]) -> Tensor:
        """One step of some clients, on a batch each, of one size; the features [clients, n, d]."""
        rows = torch.tensor(clients)
        every = len(clients) == len(next(iter(self._parameters.values())))

        def picked(values: Values) -> Values:
            return values if every else {name: value[rows] for name, value in values.items()}

        parameters, others, momenta = map(picked, (self._parameters, self._others, self._momenta))
        leaves = {name: value.requires_grad_() for name, value in parameters.items()}
        inputs = torch.stack([batch.inputs for batch in group])
        losses, features = self._forward(leaves, others, inputs, torch.stack([b.labels for b in group]))
        _check_finite(losses.detach(), clients)
        # Each client's loss depends on its own values alone, so the gradient of the sum is that of each.
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
                value.requires_grad_(False)
                if gradient is None:
                    continue
                momenta[name].mul_(self._training.momentum).add_(gradient)
                value.sub_(momenta[name], alpha=self._training.learning_rate)
            if not every:
                for whole, part in (
                    (self._parameters, parameters),
                    (self._others, others),
                    (self._momenta, momenta),
                ):
                    for name, value in part.items():
                        whole[name][rows] = value
        return features.detach()

    def values(self) -> list[Values]:
        """All values of each client, in storage of their own."""
        values = {**self._parameters, **self._others}
        clients = range(len(next(iter(values.values()))))
        return [{name: value[client].clone() for name, value in values.items()} for client in clients]


def _steps(
    samples: Sequence[Images], training: LocalTraining, generators: Sequence[torch.Generator]
) -> Iterator[tuple[list[int], list[Batch]]]:
    """The clients that take a step together, with their batches: those whose next ones are of one size."""
    ahead = [_passes(own, training, generator) for own, generator in zip(samples, generators, strict=True)]
    while True:
        sizes: dict[int, tuple[list[int], list[Batch]]] = {}
        for client, own in enumerate(ahead):
            if (batch := next(own, None)) is not None:
                clients, group = sizes.setdefault(len(batch.labels), ([], []))
                clients.append(client)
                group.append(batch)
        if not sizes:
            return
        yield from sizes.values()


def _passes(samples: Images, training: LocalTraining, generator: torch.Generator) -> Iterator[Batch]:
    return itertools.chain.from_iterable(
        batches(samples, training.batch_size, generator) for _ in range(training.epochs)
    )


def _check_finite(losses: Tensor, clients: Sequence[int]) -> None:
    finite = torch.isfinite(losses)
    if not bool(finite.all()):
        place = int((~finite).nonzero()[0])
        said = f"the loss of client {clients[place]} is {float(losses[place]):g}"
        raise FederationError(f"{said}; lower the learning rate")


def _check(
    network: nn.Module, states: Sequence[object], samples: Sequence[Images], generators: Sequence[object]
) -> None:
    if not states or not len(states) == len(samples) == len(generators):
        counts = f"{len(states)} states, {len(samples)} clients' samples and {len(generators)} generators"
        raise FederationError(f"{counts}; each client has one of each, and there is one at least")
    for client, own in enumerate(samples):
        if not len(own):
            raise FederationError(f"client {client} has no samples to train on")
    if (reason := obstacle(network)) is not None:
        raise FederationError(f"networks that cannot be trained at once: {reason}")
