"""A grid that hands over replies as soon as they are there, and has all that passes priced."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedsim.federated.clients import HELLO
from fedsim.federated.metering import Meter

__all__ = ["PromptGrid"]

_POLL_S = (0.1, 0.5)  # between two looks for replies: at first, and at most


class PromptGrid(Grid):
    """Another grid, that is looked at for replies a few times a second.

    Flower's own for SuperNodes is looked at every three seconds.

    Args:
        grid: of the engine.
        meter: prices the messages. Whose they are is known from the first reply of a node on, in which it
            names its partition.
    """

    def __init__(self, grid: Grid, meter: Meter | None = None) -> None:
        self._grid = grid
        self._meter = meter
        self._partitions: dict[int, int] = {}  # of each node that has named its own
        self._greeted: dict[int, Message] = {}  # what was sent to the others

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and wait for all replies, or for those that come in time."""
        end = None if timeout is None else time.monotonic() + timeout
        waiting = {number for number in self.push_messages(messages) if number}
        replies: list[Message] = []
        pause, longest = _POLL_S
        while waiting:
            for reply in self.pull_messages(waiting):
                replies.append(reply)
                waiting.discard(reply.metadata.reply_to_message_id)
            if not waiting or (end is not None and time.monotonic() >= end):
                break
            time.sleep(pause)
            pause = min(longest, 2 * pause)
        return replies

    # --- as the other does ----------------------------------------------------------------------

    def set_run(self, run: Any) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """The run."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message, as older apps make them."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are there."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; their numbers."""
        whole = list(messages)
        if self._meter is not None:
            for message in whole:
                node = message.metadata.dst_node_id
                if node in self._partitions:
                    self._meter.sent(self._partitions[node], message)
                else:
                    self._greeted[node] = message
        return self._grid.push_messages(whole)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to these messages that are there, each once."""
        replies = list(self._grid.pull_messages(message_ids))
        if self._meter is not None:
            for reply in replies:
                self._received(self._meter, reply)
        return replies

    def _received(self, meter: Meter, reply: Message) -> None:
        node = reply.metadata.src_node_id
        if (greeting := self._greeted.pop(node, None)) is not None:
            hello = reply.content.get(HELLO) if reply.has_content() else None
            partition = hello.get("partition") if isinstance(hello, ConfigRecord) else None
            if not isinstance(partition, int):
                return  # nobody: the server says what is wrong with it
            self._partitions[node] = partition
            meter.sent(partition, greeting)
        if node in self._partitions:
            meter.received(self._partitions[node], reply)
