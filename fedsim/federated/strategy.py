"""The server's side of every method, as a Flower strategy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from edge.prototypes import StatisticsError
from fedsim.errors import FederationError
from fedsim.federated import evaluation
from fedsim.federated.clients import HELLO, RESULTS, ROUND, SETUP
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.evaluation import Result
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.packet import Packet
from fedsim.federated.site import Site

__all__ = ["Limits", "MethodStrategy", "Rejection", "RoundRecord"]

_WAIT_S = 0.5  # between two looks at which nodes have come


@dataclass(frozen=True)
class Limits:
    """What the server puts up with.

    Args:
        payload_bytes: of a reply; a longer one is not read.
        nodes_s: seconds until all clients have to be there.
    """

    payload_bytes: int = 64 << 20
    nodes_s: float = 60.0


@dataclass(frozen=True)
class Rejection:
    """A client whose reply had no part in a round."""

    round: int
    partition: int
    reason: str


@dataclass(frozen=True)
class RoundRecord:
    """A round that is over.

    Args:
        number: from 1.
        cohort: partitions that were asked.
        merged: partitions whose replies were merged.
        lost: partitions that dropped out.
        rejected: partitions whose replies were refused, with the reasons.
        results: of the clients that were evaluated behind this round, by partition.
    """

    number: int
    cohort: tuple[int, ...]
    merged: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    results: dict[int, list[Result]] = field(default_factory=dict)


class MethodStrategy(Strategy):
    """Carries a method out on Flower's rounds.

    Args:
        site: of the run.
        method: which one.
        cohorts: who takes part in which round.
        rounds: in all, of the run; counted from ``done``.
        evaluate_every: rounds from one evaluation to the next; the last round always has one.
        limits: what the server puts up with.
        state: to go on from; by default the method's start.
        done: rounds that are behind that state.
        informed: partitions that have been given what the method's setup sends.
        round_ended: called after every round with the state and the record of it.
    """

    def __init__(
        self,
        site: Site,
        method: FederatedMethod,
        cohorts: Cohorts,
        rounds: int,
        *,
        evaluate_every: int = 1,
        limits: Limits = Limits(),
        state: State | None = None,
        done: int = 0,
        informed: Iterable[int] = (),
        round_ended: Callable[[State, RoundRecord], None] | None = None,
    ) -> None:
        self.site = site
        self.method = method
        self.cohorts = cohorts
        self.rounds = rounds
        self.state = method.start(site) if state is None else state
        self.records: list[RoundRecord] = []
        self.informed = set(informed)
        self._evaluate_every = evaluate_every
        self._limits = limits
        self._done = done
        self._round_ended = round_ended
        self._nodes: dict[int, int] = {}  # node of each partition
        self._partitions: dict[int, int] = {}
        self._cohort: list[int] = []

    def run(self, grid: Grid) -> list[RoundRecord]:
        """All rounds that are left."""
        self.start(grid, ArrayRecord(), num_rounds=self.rounds - self._done)
        return self.records

    # --- what Flower asks of a strategy -----------------------------------------------------

    def summary(self) -> None:
        """Nothing: fedsim tells by itself what it runs."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message to every client of the round's cohort that has samples in it."""
        self._meet(grid)
        number = self._done + server_round
        shares = self.site.shares
        self._cohort = [p for p in self.cohorts.of_round(number) if len(shares[p].samples(number))]
        return self._messages(
            MessageType.TRAIN, number, self._cohort, self.method.down(self.site, self.state)
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Read, check and merge; whoever replied what cannot be is named and left out."""
        number = self._done + server_round
        lost = self.cohorts.lost(number)
        updates, rejected = [], []
        for reply in replies:
            partition = self._partitions[reply.metadata.src_node_id]
            if partition in lost:
                continue
            try:
                updates.append((partition, self.method.receive(self.site, self._packet(reply))))
            except (FederationError, StatisticsError) as error:
                rejected.append(Rejection(number, partition, str(error)))
        updates.sort(key=lambda update: update[0])
        if updates:
            self.state = self.method.merge(self.site, self.state, updates)
        heard = {*(p for p, _ in updates), *(r.partition for r in rejected), *lost}
        silent = [p for p in self._cohort if p not in heard]
        rejected += [Rejection(number, partition, "no reply in time") for partition in silent]
        self.records.append(
            RoundRecord(
                number,
                tuple(self._cohort),
                merged=tuple(partition for partition, _ in updates),
                lost=tuple(sorted(lost & set(self._cohort))),
                rejected=tuple(sorted(rejected, key=lambda one: one.partition)),
            )
        )
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message to every client, in the rounds that are evaluated."""
        number = self._done + server_round
        if number % self._evaluate_every and number != self.rounds:
            return []
        everybody = range(self.site.clients)
        return self._messages(
            MessageType.EVALUATE, number, everybody, self.method.shared(self.site, self.state)
        )

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The results of all clients, into the record of the round, which is over with that."""
        record = self.records[-1]
        rejected = list(record.rejected)
        for reply in replies:
            partition = self._partitions[reply.metadata.src_node_id]
            try:
                record.results[partition] = _results(reply)
            except FederationError as error:
                rejected.append(Rejection(record.number, partition, f"evaluation: {error}"))
        self.records[-1] = record = RoundRecord(
            record.number, record.cohort, record.merged, record.lost, tuple(rejected), record.results
        )
        if self._round_ended is not None:
            self._round_ended(self.state, record)
        return None

    # --- messages ---------------------------------------------------------------------------

    def _messages(
        self, kind: str, number: int, partitions: Sequence[int], packet: Packet
    ) -> Iterable[Message]:
        """One message for each; whoever has not been set up is, with it."""
        setup = self.method.setup(self.site, self.state)
        first = Packet({**{SETUP + name: part for name, part in setup.parts.items()}, **packet.parts})
        contents = {new: (first if new else packet).content() for new in (True, False)}
        for content in contents.values():
            content[ROUND] = ConfigRecord({"number": number})
        for partition in partitions:
            content = contents[partition not in self.informed]
            self.informed.add(partition)
            yield Message(content, self._nodes[partition], kind, group_id=str(number))

    def _packet(self, reply: Message) -> Packet:
        if reply.has_error():
            raise FederationError(reply.error.reason or f"error {reply.error.code}")
        packet = Packet.of(reply.content)
        if packet.payload_bytes > self._limits.payload_bytes:
            most = self._limits.payload_bytes
            raise FederationError(f"a reply of {packet.payload_bytes} bytes, allowed are {most}")
        return packet

    def _meet(self, grid: Grid) -> None:
        """Wait until all clients are there, and ask each which partition it has; once a run."""
        if self._nodes:
            return
        deadline = time.monotonic() + self._limits.nodes_s
        while len(nodes := sorted(grid.get_node_ids())) < self.site.clients:
            if time.monotonic() > deadline:
                waited = f"{self._limits.nodes_s:g} seconds"
                raise FederationError(f"{len(nodes)} of {self.site.clients} clients have come in {waited}")
            time.sleep(_WAIT_S)
        left = max(1.0, deadline - time.monotonic())
        asked = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
        for reply in grid.send_and_receive(asked, timeout=left):
            node = reply.metadata.src_node_id
            if reply.has_error():
                raise FederationError(f"node {node} says of itself: {reply.error.reason}")
            partition = reply.content[HELLO]["partition"]
            if not isinstance(partition, int) or not 0 <= partition < self.site.clients:
                raise FederationError(f"node {node} has partition {partition!r} of {self.site.clients}")
            if partition in self._nodes:
                raise FederationError(f"two nodes have partition {partition}")
            self._nodes[partition] = node
        if missing := [p for p in range(self.site.clients) if p not in self._nodes]:
            raise FederationError(f"no node has partition {missing[0]}")
        self._partitions = {node: partition for partition, node in self._nodes.items()}


def _results(reply: Message) -> list[Result]:
    if reply.has_error():
        raise FederationError(reply.error.reason or f"error {reply.error.code}")
    record = reply.content.get(RESULTS)
    if not isinstance(record, ConfigRecord):
        raise FederationError("a reply without results")
    return evaluation.from_record(record)
