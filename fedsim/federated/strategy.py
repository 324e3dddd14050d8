"""The server's side of every method, as a Flower strategy."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from edge.prototypes import StatisticsError
from fedsim.errors import FederationError
from fedsim.federated import evaluation
from fedsim.federated.checks import Limits, check_results, check_update, one_line
from fedsim.federated.clients import HELLO, RESULTS, ROUND, SETUP, TIME
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.packet import Packet
from fedsim.federated.rounds import Rejection, RoundRecord
from fedsim.federated.secure_aggregation import Exchange, Masked, VoidRoundError
from fedsim.federated.site import Site

__all__ = ["Limits", "Merged", "MethodStrategy", "Rejection", "RoundRecord"]

#: Told of the server's work in a round: the round, the Unix time at which it began, its seconds.
Merged = Callable[[int, float, float], None]

_AWAY = (
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
)
_WAIT_S = 0.5  # between two looks at which nodes have come

_logger = logging.getLogger(__name__)


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
        informed: partitions that have what the method's setup sends, as far as the server has heard.
        absent: partitions whose nodes have gone for good, and are not waited for.
        merged: called when the replies of a round have been read and merged.
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
        limits: Limits | None = None,
        state: State | None = None,
        done: int = 0,
        informed: Iterable[int] = (),
        absent: Iterable[int] = (),
        merged: Merged | None = None,
        round_ended: Callable[[State, RoundRecord], None] | None = None,
    ) -> None:
        self.site = site
        self.method = method
        self.cohorts = cohorts
        self.rounds = rounds
        self.state = method.start(site) if state is None else state
        self.records: list[RoundRecord] = []
        self.informed = set(informed)
        self._absent = frozenset(absent)
        self._evaluate_every = evaluate_every
        self._limits = limits or Limits()
        self._done = done
        self._merged = merged
        self._round_ended = round_ended
        self._nodes: dict[int, int] = {}  # node of each partition
        self._partitions: dict[int, int] = {}
        self._cohort: list[int] = []
        self._asked: list[int] = []  # those of the cohort that train
        self._refused: dict[int, str] = {}  # of the cohort, ahead of its training
        self._exchange: Exchange | None = None
        self._void = ""

    def run(self, grid: Grid) -> list[RoundRecord]:
        """All rounds that are left."""
        left = self.rounds - self._done
        self.start(grid, ArrayRecord(), num_rounds=left, timeout=self._limits.reply_s)
        return self.records

    # --- what Flower asks of a strategy -----------------------------------------------------

    def summary(self) -> None:
        """Nothing: fedsim tells by itself what it runs."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A message to every client of the round's cohort that has samples in it."""
        self._meet(grid)
        number = self._done + server_round
        shares = self.site.shares
        self._cohort = [p for p in self.cohorts.of_round(number) if len(shares[p].samples(number))]
        self._refused, self._exchange, self._void = {}, None, ""
        cohort, packet = self._cohort, self.method.down(self.site, self.state)
        if isinstance(self.method, Masked):
            cohort, packet = self._keys_exchanged(self.method, number, packet, grid)
        self._asked = cohort
        return self._messages(MessageType.TRAIN, number, cohort, packet)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Read, check and merge; whoever replied what cannot be is named and left out."""
        start, begun = time.time(), time.perf_counter()
        number = self._done + server_round
        lost = self.cohorts.lost(number) & set(self._asked)
        asked = [p for p in self._asked if p not in lost]
        heard, refused = self._heard(replies, MessageType.TRAIN, number, asked, unread=lost)
        refused |= self._refused
        updates: list[tuple[int, Any]] = []
        late: dict[int, float] = {}
        for partition, reply in heard.items():
            try:
                if (behind := self._behind(partition, reply)) > 0:
                    late[partition] = behind
                    continue
                update = self.method.receive(self.site, self._packet(reply))
                check_update(update, self._limits)
                updates.append((partition, update))
            except (FederationError, StatisticsError) as error:
                refused[partition] = one_line(str(error))
        merged = tuple(partition for partition, _ in updates)
        if self._exchange is not None:
            updates = self._sum(self._exchange, updates, refused)
        if updates:
            self.state = self.method.merge(self.site, self.state, updates)
        self.informed |= {*merged, *late}
        self.informed -= refused.keys()
        self.records.append(
            RoundRecord(
                number,
                tuple(self._cohort),
                merged=merged if updates else (),
                lost=tuple(sorted(lost)),
                rejected=tuple(Rejection(number, p, reason) for p, reason in sorted(refused.items())),
                late=late,
                void=self._void,
            )
        )
        if self._merged is not None:
            self._merged(number, start, time.perf_counter() - begun)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> list[Message]:
        """A message to every client, in the rounds that are evaluated."""
        number = self._done + server_round
        if not self._is_evaluated(number):
            return []
        everybody = range(self.site.clients)
        return self._messages(
            MessageType.EVALUATE, number, everybody, self.method.shared(self.site, self.state)
        )

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The results of all clients, into the record of the round, which is over with that."""
        record = self.records[-1]
        if self._is_evaluated(record.number):
            everybody = range(self.site.clients)
            heard, refused = self._heard(replies, MessageType.EVALUATE, record.number, everybody)
            for partition, reply in heard.items():
                try:
                    record.results[partition] = self._results(partition, reply)
                except FederationError as error:
                    refused[partition] = one_line(str(error))
            self.informed |= record.results.keys()
            self.informed -= refused.keys()
            found = (Rejection(record.number, p, f"evaluation: {why}") for p, why in sorted(refused.items()))
            self.records[-1] = record = replace(record, rejected=(*record.rejected, *found))
        if self._round_ended is not None:
            self._round_ended(self.state, record)
        return None

    def _is_evaluated(self, number: int) -> bool:
        return number % self._evaluate_every == 0 or number == self.rounds

    # --- masking ----------------------------------------------------------------------------

    def _keys_exchanged(
        self, method: Masked, number: int, packet: Packet, grid: Grid
    ) -> tuple[list[int], Packet]:
        """Who is to train, and the packet for them with the keys of all; nobody where too few have any."""

        def ask(action: str, packets: Mapping[int, Packet]) -> tuple[dict[int, Packet], dict[int, str]]:
            return self._ask(grid, action, number, packets)

        exchange = Exchange(method, self.site, number, ask)
        try:
            self._refused = exchange.open(self._cohort)
        except VoidRoundError as error:
            self._refused, self._void = error.refused, str(error)
            return [], packet
        self._exchange = exchange
        return exchange.cohort, exchange.packet(packet)

    def _sum(
        self, exchange: Exchange, updates: Sequence[tuple[int, Any]], refused: dict[int, str]
    ) -> list[tuple[int, Any]]:
        """The one update that is the sum of all; none where it cannot be read."""
        try:
            total = exchange.close(dict(updates))
            check_update(total, replace(self._limits, samples=len(updates) * self._limits.samples))
        except VoidRoundError as error:
            refused |= error.refused
            self._void = str(error)
            return []
        except FederationError as error:
            self._void = f"the masked sum is refused: {error}"
            return []
        return [(updates[0][0], total)]

    def _ask(
        self, grid: Grid, action: str, number: int, packets: Mapping[int, Packet]
    ) -> tuple[dict[int, Packet], dict[int, str]]:
        """Query clients; what they reply, and who replied nothing that can be read and why."""
        kind = f"{MessageType.QUERY}.{action}"
        messages = []
        for partition, packet in packets.items():
            if partition not in self._nodes:
                continue
            content = packet.content()
            content[ROUND] = ConfigRecord({"number": number})
            messages.append(Message(content, self._nodes[partition], kind, group_id=str(number)))
        replies = grid.send_and_receive(messages, timeout=self._limits.reply_s)
        heard, refused = self._heard(replies, kind, number, packets)
        found = {}
        for partition, reply in heard.items():
            try:
                found[partition] = self._packet(reply)
            except FederationError as error:
                refused[partition] = one_line(str(error))
        return found, refused

    # --- messages ---------------------------------------------------------------------------

    def _messages(self, kind: str, number: int, partitions: Sequence[int], packet: Packet) -> list[Message]:
        """One message for each; whoever has not been set up is, with it."""
        setup = self.method.setup(self.site, self.state)
        first = Packet({**{SETUP + name: part for name, part in setup.parts.items()}, **packet.parts})
        contents = {new: (first if new else packet).content() for new in (True, False)}
        timed = kind == MessageType.TRAIN and self.cohorts.deadline_s is not None
        for content in contents.values():
            content[ROUND] = ConfigRecord({"number": number, **({"timed": True} if timed else {})})
        return [
            Message(contents[p not in self.informed], self._nodes[p], kind, group_id=str(number))
            for p in partitions
            if p in self._nodes
        ]

    def _heard(
        self,
        replies: Iterable[Message],
        kind: str,
        number: int,
        asked: Collection[int],
        unread: Collection[int] = (),
    ) -> tuple[dict[int, Message], dict[int, str]]:
        """One reply of each who was asked, ascending by partition; and who gave none, and why."""
        found: dict[int, Message] = {}
        refused: dict[int, str] = {}
        for reply in replies:
            node = reply.metadata.src_node_id
            if (partition := self._partitions.get(node)) is None:
                said = one_line(reply.error.reason) if reply.has_error() else "content"
                _logger.warning("node %d, which no client has, is not listened to: %s", node, said)
            elif partition in unread or partition in refused:
                continue
            elif partition not in asked:
                refused[partition] = "a reply, and it was not asked"
            elif partition in found:
                refused[partition] = "more than one reply"
            elif reply.has_error():
                refused[partition] = one_line(reply.error.reason) or f"error {reply.error.code}"
            elif (reply.metadata.message_type, reply.metadata.group_id) != (kind, str(number)):
                what = f"{reply.metadata.message_type!r} of round {reply.metadata.group_id}"
                refused[partition] = one_line(f"a reply to {what}, asked was {kind!r} of round {number}")
            else:
                found[partition] = reply
        silent = [p for p in asked if p not in found and p not in refused]
        refused |= {p: "no reply in time" if p in self._nodes else "it has gone" for p in silent}
        return {p: found[p] for p in sorted(found) if p not in refused}, refused

    def _behind(self, partition: int, reply: Message) -> float:
        """Seconds by which a client missed the deadline; the rest of its reply is not looked at for that."""
        if self.cohorts.deadline_s is None:
            return 0.0
        record = reply.content.get(TIME)
        seconds = record.get("seconds") if isinstance(record, MetricRecord) else None
        if not isinstance(seconds, float) or not 0 <= seconds < math.inf:
            raise FederationError("a reply without the time that it took")
        return self.cohorts.late(partition, seconds)

    def _results(self, partition: int, reply: Message) -> list[evaluation.Result]:
        record = reply.content.get(RESULTS)
        if not isinstance(record, ConfigRecord):
            raise FederationError("a reply without results")
        results = evaluation.from_record(record)
        samples = {"personal": len(self.site.shares[partition].test), "global": len(self.site.dataset.x_test)}
        check_results(results, samples)
        return results

    def _packet(self, reply: Message) -> Packet:
        packet = Packet.of(reply.content)
        if packet.payload_bytes > self._limits.payload_bytes:
            most = self._limits.payload_bytes
            raise FederationError(f"a reply of {packet.payload_bytes} bytes, allowed are {most}")
        return packet

    def _meet(self, grid: Grid) -> None:
        """Wait until all clients are there but those that have gone; once a run."""
        if self._nodes:
            return
        deadline = time.monotonic() + self._limits.nodes_s
        expected = set(range(self.site.clients)) - self._absent
        asked: set[int] = set()
        questions: dict[str, int] = {}  # nodes that are asked, by the message
        while missing := expected - self._nodes.keys():
            nodes = set(grid.get_node_ids())
            if nodes - asked and len(nodes) >= len(expected):
                new = sorted(nodes - asked)
                hellos = [Message(RecordDict(), node, MessageType.QUERY) for node in new]
                questions |= zip(grid.push_messages(hellos), new, strict=True)
                asked |= nodes
            for reply in grid.pull_messages(list(questions)) if questions else ():
                node = questions.pop(reply.metadata.reply_to_message_id, None)
                if reply.has_error() and reply.error.code in _AWAY:
                    asked.discard(node)  # to be asked again, as long as it is listed
                else:
                    self._greet(reply)
            if (
                expected <= self._nodes.keys()
            ):  # whoever else was asked has gone, and may be listed for a while
                break
            if time.monotonic() > deadline:
                waited = f"{self._limits.nodes_s:g} seconds"
                if len(nodes) < len(expected):
                    raise FederationError(f"{len(nodes)} of {len(expected)} clients have come in {waited}")
                raise FederationError(f"no node has said in {waited} that it has partition {min(missing)}")
            time.sleep(_WAIT_S)
        self._partitions = {node: partition for partition, node in self._nodes.items()}

    def _greet(self, reply: Message) -> None:
        """Hear of a node which partition it has."""
        node = reply.metadata.src_node_id
        if reply.has_error():
            raise FederationError(f"node {node} says of itself: {one_line(reply.error.reason)}")
        hello = reply.content.get(HELLO)
        partition = hello.get("partition") if isinstance(hello, ConfigRecord) else None
        if not isinstance(partition, int) or not 0 <= partition < self.site.clients:
            raise FederationError(f"node {node} has partition {partition!r} of {self.site.clients}")
        if partition in self._nodes:
            raise FederationError(f"two nodes have partition {partition}")
        self._nodes[partition] = node
