"""The ClientApp: one for every method and every engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedsim.errors import FederationError
from fedsim.federated import evaluation
from fedsim.federated.grid import InlineGrid
from fedsim.federated.method import Client, FederatedMethod
from fedsim.federated.packet import Packet
from fedsim.federated.secure_aggregation import KEYS, PASSING, UNMASK, Masked
from fedsim.federated.site import Site

__all__ = ["HELLO", "RESULTS", "ROUND", "SETUP", "TIME", "client_app", "client_of", "give_back", "kept_by"]

#: Records of messages: a client's partition, the results of an evaluation, the number of the round (and
#: whether it is timed), how long a client's step took.
HELLO, RESULTS, ROUND, TIME = "hello", "results", "round", "time"
#: What the parts of a packet begin with that a client keeps.
SETUP = "setup:"
_KEPT = "kept"

#: Gives the site and the method of a run to a client, from its context.
Provider = Callable[[Context], tuple[Site, FederatedMethod]]


def client_app(provide: Provider) -> ClientApp:
    """A ClientApp.

    It answers ``query`` with its partition, ``train`` with what the method's step replies, and
    ``evaluate`` with its results; where the method is masked, ``query.keys`` and ``query.unmask`` as well.
    What a method keeps lies in its context's state.
    """
    app = ClientApp()

    @app.query()
    def hello(message: Message, context: Context) -> Message:
        partition = _partition(context)
        return Message(RecordDict({HELLO: ConfigRecord({"partition": partition})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site, method = provide(context)
        client, packet = client_of(site, message, context)
        began = time.perf_counter()
        content = method.step(site, client, packet).content()
        if message.content[ROUND].get("timed"):
            content[TIME] = MetricRecord({"seconds": time.perf_counter() - began})
        return Message(content, reply_to=message)

    @app.query(KEYS)
    def keys(message: Message, context: Context) -> Message:
        site, method = provide(context)
        client, _ = client_of(site, message, context)
        return Message(_masked(method).keys(client).content(), reply_to=message)

    @app.query(UNMASK)
    def unmask(message: Message, context: Context) -> Message:
        site, method = provide(context)
        client, packet = client_of(site, message, context)
        return Message(_masked(method).unmask(client, packet).content(), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        site, method = provide(context)
        client, packet = client_of(site, message, context)
        share = site.shares[client.partition]
        labels = site.dataset.y_train
        tests: Mapping[evaluation.Test, tuple[torch.Tensor, np.ndarray]] = {  # type: ignore[type-arg]
            "personal": (site.images[torch.from_numpy(share.test)], labels[share.test]),
            "global": (torch.from_numpy(site.dataset.x_test), site.dataset.y_test),
        }
        own = np.unique(labels[share.seen(client.round)])
        results = evaluation.evaluate(method.predictors(site, client, packet), own, tests)
        return Message(RecordDict({RESULTS: evaluation.to_record(results)}), reply_to=message)

    return app


def kept_by(grid: InlineGrid) -> dict[int, dict[str, bytes]]:
    """What the clients of a grid in this process keep, by partition, but for what is of one round only."""
    found: dict[int, dict[str, bytes]] = {}
    for partition, context in grid.contexts.items():
        record = context.state.get(_KEPT)
        items = record.items() if isinstance(record, ConfigRecord) else ()
        kept = {str(key): value for key, value in items if isinstance(value, bytes)}
        if lasting := {key: value for key, value in kept.items() if not key.startswith(PASSING)}:
            found[partition] = lasting
    return found


def give_back(grid: InlineGrid, kept: Mapping[int, Mapping[str, bytes]]) -> None:
    """Let the clients of a new grid keep what those of another did."""
    for partition, values in kept.items():
        grid.context(partition).state[_KEPT] = ConfigRecord(dict(values))


def _masked(method: FederatedMethod) -> Masked:
    if not isinstance(method, Masked):
        raise FederationError(f"{type(method).__name__} is not masked on this client")
    return method


def _partition(context: Context) -> int:
    partition = context.node_config.get("partition-id")
    if not isinstance(partition, int):
        raise FederationError("a node without a partition-id in its configuration")
    return partition


def client_of(site: Site, message: Message, context: Context) -> tuple[Client, Packet]:
    """The client of a message, and the packet without what the client has been given to keep."""
    partition = _partition(context)
    if not 0 <= partition < site.clients:
        raise FederationError(f"partition {partition} of {site.clients}")
    number = message.content[ROUND]["number"]
    assert isinstance(number, int)
    kept = context.state.setdefault(_KEPT, ConfigRecord())
    assert isinstance(kept, ConfigRecord)
    packet = Packet.of(message.content)
    for name, part in packet.parts.items():
        if name.startswith(SETUP):
            kept[name.removeprefix(SETUP)] = part
    others = {name: part for name, part in packet.parts.items() if not name.startswith(SETUP)}
    indices = site.shares[partition].samples(number)
    return Client(partition, number, indices, kept), Packet(others)  # type: ignore[arg-type]
