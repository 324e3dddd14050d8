"""Flower apps on the grid in this process; the first ones are not ours."""

import logging
import random

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx
from flwr.supercore.task_identity import TaskIdentity

from fedsim.errors import ClientError, FederationError
from fedsim.federated.grid import InlineGrid, run_inline

from . import strangers

CONFIG = {"local-steps": 5}


def run_strangers(strategy: FedAvg, rounds: int = 15, clients: int = 6):
    app, results = strangers.server_app(strategy, rounds)
    run_inline(app, InlineGrid(strangers.client_app, clients, run_config=CONFIG))
    return results[0]


@pytest.mark.parametrize(
    "strategy",
    [FedAvg(), FedAvg(fraction_train=0.5), FedProx(proximal_mu=0.1), FedAdam(eta=0.1, tau=1e-3)],
    ids=lambda strategy: type(strategy).__name__,
)
def test_the_app_of_a_stranger_learns_with_flowers_own_strategies(strategy: FedAvg) -> None:
    random.seed(0)
    result = run_strangers(strategy, rounds=80)
    assert np.abs(result.arrays["w"].numpy() - strangers.TRUE).max() < 0.3
    errors = [result.evaluate_metrics_clientapp[r]["error"] for r in (1, 80)]
    assert errors[1] < 0.1 * errors[0]


def test_federated_averaging_is_what_it_is_by_hand() -> None:
    expected = np.zeros(3)
    for _ in range(3):
        updates, sizes = [], []
        for partition in range(4):
            generator = np.random.default_rng(partition)
            inputs = generator.normal(size=(20 + partition, 3))
            weights = expected.copy()
            for _ in range(5):
                weights -= 0.1 * inputs.T @ (inputs @ (weights - strangers.TRUE)) / len(inputs)
            updates.append(weights)
            sizes.append(len(inputs))
        expected = np.average(updates, axis=0, weights=sizes)
    found = run_strangers(FedAvg(), rounds=3, clients=4).arrays["w"].numpy()
    assert np.allclose(found, expected, rtol=1e-12)


# What a client sees, and what it keeps


def ask(client_app: ClientApp, clients: int = 2, rounds: int = 1, **options) -> list[Message]:
    """Send every client the same record, round by round; all replies."""
    app, replies = ServerApp(), []

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        shared = RecordDict({"config": ConfigRecord({"list": [1, 2], "text": "sent"})})
        for _ in range(rounds):
            messages = [Message(shared, node, "train") for node in grid.get_node_ids()]
            replies.extend(grid.send_and_receive(messages))
        assert shared == RecordDict({"config": ConfigRecord({"list": [1, 2], "text": "sent"})})

    run_inline(app, InlineGrid(client_app, clients, **options))
    return replies


def app_of(function) -> ClientApp:
    app = ClientApp()
    app.train()(function)
    return app


def test_what_a_client_does_to_its_message_no_other_sees() -> None:
    def meddle(message: Message, context: Context) -> Message:
        config = message.content["config"]
        seen = RecordDict({"seen": ConfigRecord({"list": list(config["list"]), "text": config["text"]})})
        config["list"].append(9)
        config["text"] = "changed"
        message.content["more"] = MetricRecord({"x": 1})
        return Message(seen, reply_to=message)

    for reply in ask(app_of(meddle), clients=3):
        assert dict(reply.content["seen"]) == {"list": [1, 2], "text": "sent"}


def test_a_message_is_its_servers_own_also_where_it_is_sent_twice() -> None:
    """Its metadata are another's for the client, who may set them, and its reply names what it replies to."""
    app, found = ServerApp(), []

    def meddle(message: Message, context: Context) -> Message:
        reply = Message(RecordDict(), reply_to=message)
        message.metadata.group_id, message.metadata.dst_node_id = "mine", 7
        return reply

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        message = Message(RecordDict(), grid.get_node_ids()[0], "train", group_id="3")
        numbers = grid.push_messages([message, message])
        assert (message.metadata.group_id, message.metadata.dst_node_id) == ("3", grid.get_node_ids()[0])
        found.extend((numbers, [m.metadata.reply_to_message_id for m in grid.pull_messages(numbers)]))

    client = app_of(meddle)

    def batched(asked):
        return [client(message, context) for _, message, context in asked]

    for options in ({}, {"batched": batched}):
        found.clear()
        run_inline(app, InlineGrid(client, 1, **options))
        assert found[0] == found[1]
        assert len(set(found[0])) == 2


def test_a_context_is_its_clients_own_and_lasts() -> None:
    def count(message: Message, context: Context) -> Message:
        state = context.state.setdefault("state", MetricRecord({"calls": 0}))
        state["calls"] += 1
        partition = context.node_config["partition-id"]
        metrics = {
            "calls": state["calls"],
            "partition": partition,
            "of": context.node_config["num-partitions"],
        }
        return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)

    replies = ask(app_of(count), clients=2, rounds=2)
    found = [dict(reply.content["metrics"]) for reply in replies]
    assert found == [
        {"calls": calls, "partition": partition, "of": 2} for calls in (1, 2) for partition in (0, 1)
    ]


def test_messages_come_from_the_server_and_replies_belong_to_them() -> None:
    def echo(message: Message, context: Context) -> Message:
        assert message.metadata.src_node_id == 1
        assert message.metadata.dst_node_id == context.node_id
        return Message(message.content, reply_to=message)

    replies = ask(app_of(echo), clients=3)
    assert [reply.metadata.dst_node_id for reply in replies] == [1] * 3
    numbers = [reply.metadata.message_id for reply in replies]
    answered = [reply.metadata.reply_to_message_id for reply in replies]
    assert len({*numbers, *answered}) == 6
    with pytest.raises(RuntimeError, match="not set"):
        _ = TaskIdentity.node_id  # what was set for the run is unset again


# What goes wrong


def fail(message: Message, context: Context) -> Message:
    if context.node_config["partition-id"] == 1:
        raise ArithmeticError("one is odd")
    return Message(RecordDict(), reply_to=message)


def test_a_client_that_raises_becomes_an_error_reply_as_in_flowers_engines() -> None:
    replies = ask(app_of(fail), clients=3)
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert replies[1].error.code == 2
    assert replies[1].error.reason == "<class 'ArithmeticError'>:<'one is odd'>"


def test_strict_names_the_client_that_raised() -> None:
    with pytest.raises(
        ClientError, match=r"^client 1 failed in 'train': ArithmeticError: one is odd$"
    ) as caught:
        ask(app_of(fail), clients=3, strict=True)
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert caught.value.exit_code == 1


def test_a_client_that_returns_no_message_or_does_not_know_what_it_is_asked() -> None:
    (reply,) = ask(app_of(lambda message, context: None), clients=1)
    assert "returned NoneType, not a Message" in reply.error.reason
    (reply,) = ask(ClientApp(), clients=1)
    assert "No train function registered" in reply.error.reason


def test_a_server_that_raises_fails_the_run() -> None:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        raise KeyError("arrays")

    with pytest.raises(FederationError, match="the ServerApp failed: KeyError: 'arrays'"):
        run_inline(app, InlineGrid(ClientApp(), 1))
    with pytest.raises(RuntimeError, match="not set"):
        _ = TaskIdentity.run_id


def test_a_message_to_a_node_that_there_is_not() -> None:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        grid.push_messages([Message(RecordDict(), 5, "train")])

    with pytest.raises(FederationError, match="a message to node 5, which there is not"):
        run_inline(app, InlineGrid(ClientApp(), 1))


def test_no_partitions() -> None:
    with pytest.raises(ValueError, match="partitions are 0, at least one is needed"):
        InlineGrid(ClientApp(), 0)


# On the way


def test_what_is_lost_on_the_way_is_not_answered() -> None:
    seen = []

    def sent(partition: int, message: Message) -> Message | None:
        seen.append(("sent", partition))
        return None if partition == 0 else message

    def received(partition: int, message: Message) -> Message | None:
        seen.append(("received", partition))
        return None if partition == 2 else message

    def echo(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    (reply,) = ask(app_of(echo), clients=3, sent=sent, received=received)
    assert reply.metadata.src_node_id == InlineGrid(ClientApp(), 3).get_node_ids()[1]
    assert seen == [("sent", 0), ("sent", 1), ("received", 1), ("sent", 2), ("received", 2)]


def test_flowers_own_words_are_kept_to_warnings(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("flwr")
    before, logger.propagate = logger.level, True
    try:
        run_strangers(FedAvg(), rounds=1)
        assert not [r for r in caplog.records if r.name == "flwr" and r.levelno < logging.WARNING]
        assert logger.level == before
    finally:
        logger.propagate = False


def test_arrays_are_handed_on_without_a_copy() -> None:
    """They are immutable bytes; a copy for each of a thousand clients would cost more than their work."""
    arrays = ArrayRecord([np.zeros(4)])
    seen = []

    def look(message: Message, context: Context) -> Message:
        seen.append(next(iter(message.content["arrays"].values())).data)
        return Message(RecordDict(), reply_to=message)

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        record = RecordDict({"arrays": arrays})
        grid.send_and_receive([Message(record, node, "train") for node in grid.get_node_ids()])

    run_inline(app, InlineGrid(app_of(look), 2))
    assert all(data is next(iter(arrays.values())).data for data in seen)


# Clients that train at once


def test_train_messages_of_a_round_are_handed_over_together() -> None:
    """Those that are lost on the way are not among them; whoever is left out, the ClientApp answers."""
    handed = []

    def batched(asked):
        handed.append([partition for partition, _, _ in asked])
        assert [context.node_config["partition-id"] for _, _, context in asked] == handed[-1]
        found = []
        for partition, message, _ in asked:
            message.content["config"]["text"] = "changed"
            record = RecordDict({"by": ConfigRecord({"text": "batched"})})
            found.append(None if partition == 3 else Message(record, reply_to=message))
        return found

    def alone(message: Message, context: Context) -> Message:
        return Message(RecordDict({"by": ConfigRecord({"text": "app"})}), reply_to=message)

    def sent(partition: int, message: Message) -> Message | None:
        return None if partition == 0 else message

    def received(partition: int, message: Message) -> Message | None:
        return None if partition == 1 else message

    replies = ask(app_of(alone), clients=4, rounds=2, batched=batched, sent=sent, received=received)
    assert handed == [[1, 2, 3]] * 2
    assert [reply.content["by"]["text"] for reply in replies] == ["batched", "app"] * 2
    assert len({reply.metadata.message_id for reply in replies}) == 4


def test_messages_of_other_kinds_are_not_handed_over() -> None:
    app, client, kinds = ServerApp(), ClientApp(), []
    client.evaluate()(lambda message, context: Message(RecordDict(), reply_to=message))

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        messages = [Message(RecordDict(), node, "evaluate") for node in grid.get_node_ids()]
        kinds.extend(reply.metadata.message_type for reply in grid.send_and_receive(messages))

    run_inline(app, InlineGrid(client, 2, batched=lambda asked: pytest.fail("nobody trains")))
    assert kinds == ["evaluate"] * 2


def test_a_reply_too_few() -> None:
    with pytest.raises(FederationError, match="1 replies to 2 clients that train at once"):
        ask(app_of(fail), clients=2, batched=lambda asked: [None])
