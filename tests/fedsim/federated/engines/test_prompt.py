"""The grid that hands over replies as soon as they are there."""

import time
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedsim.federated.engines.prompt import PromptGrid
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.metering import NOT_READ, Meter

app = ClientApp()


@app.query()
def hello(message, context):
    record = ConfigRecord({"partition": context.node_config["partition-id"]})
    return Message(RecordDict({"hello": record}), reply_to=message)


class SlowGrid(InlineGrid):
    """Hands over one reply a look, and none at all of the nodes that are gone."""

    def __init__(self, partitions: int, gone: Iterable[int] = ()) -> None:
        super().__init__(app, partitions)
        self.gone = set(gone)
        self.looks = 0
        self.sent_to: list[int] = []

    def push_messages(self, messages):
        self.sent_to += [self.partition_of(message.metadata.dst_node_id) for message in messages]
        return super().push_messages(messages)  # what can be gone through once is empty by now

    def pull_messages(self, message_ids):
        self.looks += 1
        for number in sorted(message_ids, key=int):
            reply = self._replies.get(number)
            if reply is not None and self.partition_of(reply.metadata.src_node_id) not in self.gone:
                return super().pull_messages([number])
        return []


def asked(
    grid: SlowGrid, timeout: float | None, partitions: Iterable[int], meter: Meter | None = None
) -> list[int]:
    found: list[int] = []
    server = ServerApp()

    @server.main()
    def main(slow, context):
        prompt = PromptGrid(slow, meter)
        nodes = list(prompt.get_node_ids())
        messages = (Message(RecordDict(), nodes[p], "query") for p in partitions)
        replies = prompt.send_and_receive(messages, timeout=timeout)
        found.extend(reply.content["hello"]["partition"] for reply in replies)

    run_inline(server, grid)
    return found


def test_all_replies_come_one_after_the_other():
    grid = SlowGrid(3)
    assert asked(grid, None, range(3)) == [0, 1, 2]
    assert grid.looks == 3
    assert grid.sent_to == [0, 1, 2]


@pytest.mark.parametrize("gone", [1, 2])
def test_who_does_not_reply_in_time_is_not_waited_for(gone):
    grid = SlowGrid(3, gone=[gone])
    begun = time.monotonic()
    assert asked(grid, 1.5, range(3)) == [p for p in range(3) if p != gone]
    assert time.monotonic() - begun >= 1.5
    assert grid.looks > 3


def test_all_that_passes_is_priced():
    meter = Meter("run", "row", 8, here=False)
    assert asked(SlowGrid(3), None, range(3), meter) == [0, 1, 2]
    events = meter.take()
    assert sorted((e.stage, e.client) for e in events) == [
        (stage, f"device-{partition}") for stage in ("hello-down", "hello-up") for partition in range(3)
    ]
    assert {(e.payload_bytes, e.wire_bytes, e.detail) for e in events} == {(0, None, NOT_READ)}
    assert all(e.frame_bytes > 0 for e in events if e.stage == "hello-up")


def test_nothing_to_send_is_nothing_to_wait_for():
    grid = SlowGrid(2)
    assert asked(grid, None, []) == []
    assert grid.looks == 0
