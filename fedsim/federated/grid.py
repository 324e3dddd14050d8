"""Flower's grid in this process: a ServerApp and the ClientApps it talks to, without daemons or polling.

Any Flower app that is written against the Message API runs on it as it is::

    ServerApp --Message--> InlineGrid --Message, Context--> ClientApp --Message--> back

What a real engine guarantees holds here, too: a client sees a copy of what was sent and not the server's
own records, its context is its own and lasts from message to message, and a client that raises becomes an
error reply. What a real engine does not give, this does: clients are called in the order of the messages,
so that the same seed gives the same run.

Flower's private names are used here and in no other place; tests hold them against the pinned release.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flwr.app import Context, Error, Message, MessageType, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedsim.errors import ClientError, FederationError, FedsimError

__all__ = ["Batched", "InlineGrid", "Passage", "run_inline"]

_RUN_ID = _TASK_ID = _SERVER_NODE_ID = 1
_FIRST_NODE_ID = 1_000_001  # of partition 0; not the partition, which only a client knows of itself

Config = Mapping[str, bool | float | int | str]
#: What becomes of a message on its way: the message, another, or None where it is lost.
Passage = Callable[[int, Message], Message | None]
#: What clients are asked to train, as (partition, message, context) each, to the reply of each; None leaves
#: that client to the ClientApp.
Batched = Callable[[Sequence[tuple[int, Message, Context]]], Sequence[Message | None]]


_Asked = tuple[int, Message, Context]


class InlineGrid(Grid):
    """Calls ClientApps in this process, one for each partition of the data.

    Args:
        client_app: of all clients.
        partitions: number of clients; each has its number as ``partition-id`` in its node's configuration.
        run_config: configuration of the run, for every client.
        strict: raise what a client raises, as a :class:`ClientError`, in place of an error reply.
        sent: sees every message to a client, by its partition; what it returns goes on.
        received: sees every reply of a client; what it returns goes on.
        batched: is handed all ``train`` messages that are sent at once, ahead of the ClientApp, which answers
            those that it leaves; see :mod:`fedsim.federated.vectorised`.

    Raises:
        ValueError: no partitions.
    """

    def __init__(
        self,
        client_app: ClientApp,
        partitions: int,
        *,
        run_config: Config | None = None,
        strict: bool = False,
        sent: Passage | None = None,
        received: Passage | None = None,
        batched: Batched | None = None,
    ) -> None:
        if partitions < 1:
            raise ValueError(f"partitions are {partitions}, at least one is needed")
        self._client_app = client_app
        self._partitions = partitions
        self._run_config = dict(run_config or {})
        self._strict = strict
        self._sent = sent
        self._received = received
        self._batched = batched
        self.contexts: dict[int, Context] = {}  #: of the clients that have been called, by partition
        self._numbers = itertools.count(1)
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(_RUN_ID)

    # --- what Flower asks of a grid ---------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """Set the run, which decides nothing here."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message, as older apps make them."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All nodes, at once and always."""
        return list(range(_FIRST_NODE_ID, _FIRST_NODE_ID + self._partitions))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let the clients answer; the replies wait for :meth:`pull_messages`."""
        numbers: list[str] = []
        together: list[tuple[str, _Asked]] = []
        for message in messages:
            metadata = message.metadata
            partition = self.partition_of(metadata.dst_node_id)
            metadata.__dict__["_message_id"] = number = str(next(self._numbers))
            numbers.append(number)
            arriving = message if self._sent is None else self._sent(partition, message)
            if arriving is None:
                continue
            asked = (partition, _copied(arriving), self.context(partition))
            if self._batched is not None and metadata.message_type == MessageType.TRAIN:
                together.append((number, asked))
            else:
                self._reply(number, partition, self._answered(*asked))
        if self._batched is not None and together:
            replies = self._batched([asked for _, asked in together])
            if len(replies) != len(together):
                raise FederationError(f"{len(replies)} replies to {len(together)} clients that train at once")
            for (number, asked), reply in zip(together, replies, strict=True):
                self._reply(number, asked[0], self._answered(*asked) if reply is None else reply)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to these messages, each once."""
        found = (self._replies.pop(number, None) for number in message_ids)
        return [reply for reply in found if reply is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Replies in the order of the messages. ``timeout`` has no meaning: nobody is waited for."""
        return self.pull_messages(self.push_messages(messages))

    # --- clients ----------------------------------------------------------------------------

    def partition_of(self, node_id: int) -> int:
        """The partition of a node.

        Raises:
            FederationError: there is no such node.
        """
        if not 0 <= node_id - _FIRST_NODE_ID < self._partitions:
            raise FederationError(f"a message to node {node_id}, which there is not")
        return node_id - _FIRST_NODE_ID

    def context(self, partition: int) -> Context:
        """What a client keeps from message to message."""
        if partition not in self.contexts:
            self.contexts[partition] = Context(
                run_id=_RUN_ID,
                node_id=_FIRST_NODE_ID + partition,
                node_config={"partition-id": partition, "num-partitions": self._partitions},
                state=RecordDict(),
                run_config=dict(self._run_config),
            )
        return self.contexts[partition]

    def _answered(self, partition: int, message: Message, context: Context) -> Message:
        """What the ClientApp replies."""
        try:
            reply = self._client_app(message, context)
            if not isinstance(reply, Message):
                raise TypeError(f"the ClientApp returned {type(reply).__name__}, not a Message")
        except Exception as error:
            if self._strict:
                kind = message.metadata.message_type
                said = f"{type(error).__name__}: {error}"
                raise ClientError(f"client {partition} failed in {kind!r}: {said}") from error
            reason = f"{type(error)}:<'{error}'>"
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
        return reply

    def _reply(self, number: str, partition: int, reply: Message) -> None:
        """Let a reply wait for the server, unless it is lost on its way."""
        reply.metadata.__dict__["_message_id"] = str(next(self._numbers))
        arriving = reply if self._received is None else self._received(partition, reply)
        if arriving is not None:
            self._replies[number] = arriving


def run_inline(
    server_app: ServerApp,
    grid: Grid,
    *,
    run_config: Config | None = None,
    quiet: bool = True,
) -> Context:
    """Run a ServerApp on a grid.

    Args:
        server_app: what to run.
        grid: where its clients are.
        run_config: configuration of the run, for the server.
        quiet: keep Flower's own progress messages to warnings.

    Returns:
        the server's context.

    Raises:
        FederationError: the ServerApp failed.
    """
    context = Context(
        run_id=_RUN_ID,
        node_id=_SERVER_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config=dict(run_config or {}),
    )
    with _server(), _logging_at(logging.WARNING if quiet else logging.INFO):
        try:
            server_app(grid, context)
        except FedsimError:
            raise
        except Exception as error:
            raise FederationError(f"the ServerApp failed: {type(error).__name__}: {error}") from error
    return context


@contextmanager
def _server() -> Iterator[None]:
    """Messages made inside come from the server."""
    names = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = _TASK_ID, _RUN_ID, _SERVER_NODE_ID
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)


@contextmanager
def _logging_at(level: int) -> Iterator[None]:
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


def _copied(message: Message) -> Message:
    """The message with metadata and records of its own. Arrays are immutable bytes and stay shared.

    Nothing is checked again that was when the message was made: for a thousand clients that would cost as
    much as all else that the grid does.
    """
    content = message.content.copy()
    records = content.__dict__["_data"]
    for name, record in records.items():
        records[name] = _record_copied(record)
    metadata = Metadata.__new__(Metadata)
    metadata.__dict__.update(message.metadata.__dict__)
    copy = Message.__new__(Message)
    copy.__dict__.update(_metadata=metadata, _content=content, _error=None)
    return copy


def _record_copied(record: Any) -> Any:
    copy = record.copy()
    values = copy.__dict__["_data"]
    for key, value in values.items():
        if isinstance(value, list):
            values[key] = list(value)
    return copy
