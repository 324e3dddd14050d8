"""Every message priced at four levels, told apart by what it is for."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import ServerApp

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.federated.clients import RESULTS, ROUND, SETUP, client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, _server, run_inline
from fedsim.federated.local import LocalTraining
from fedsim.federated.metering import NO_SOCKET, STAGES, Meter, sizes_of
from fedsim.federated.methods.fedavg import FedAvg
from fedsim.federated.methods.fedproto import FedProto
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.packet import Packet
from fedsim.federated.personal import values_codec
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.secure_aggregation import Masked
from fedsim.federated.strategy import MethodStrategy

from .conftest import dealt, growing

FAST = LocalTraining(batch_size=64, learning_rate=0.05)


def metered(site, method, rounds, *, meter=None, cohort=None):
    meter = meter or Meter("run", "row", site.dimension)
    strategy = MethodStrategy(
        site,
        method,
        Cohorts(site.clients, cohort or site.clients, site.seed),
        rounds,
        evaluate_every=rounds,
    )
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    grid = InlineGrid(
        client_app(lambda context: (site, method)),
        site.clients,
        strict=True,
        sent=meter.sent,
        received=meter.received,
    )
    run_inline(app, grid)
    return meter.take(), strategy


def of(events, stage, number=None):
    return [e for e in events if e.stage == stage and number in (None, e.round)]


def statistics(bits, dimension=8, rows=5, seed=0):
    generator = np.random.default_rng(seed)
    found = ClassStatistics.of(generator.normal(size=(40, dimension)), generator.integers(0, rows, 40))
    return StatisticsCodec(dimension, bits).encode(found)


@pytest.mark.parametrize("bits", [4, 5, 16, 32, 64])
def test_a_message_at_three_levels(bits):
    coded = statistics(bits)
    content = Packet({"statistics": coded.payload, "count": b"12345678"}).content()
    size, setup = sizes_of(content, 8)
    assert setup is None
    assert size.payload_bytes == len(coded.payload) + 8
    assert size.ideal_bits == pytest.approx(coded.ideal_bits + 64)
    assert size.frame_bytes == len(recorddict_to_proto(content).SerializeToString())
    assert size.frame_bytes > size.payload_bytes


def test_the_frame_is_all_that_flower_needs_to_make_the_message_again():
    content = RecordDict(
        {
            "packet": ConfigRecord({"a": b"bytes", "list": [1, 2]}),
            "metrics": MetricRecord({"loss": 0.5}),
            "arrays": ArrayRecord([np.ones((2, 3), np.float32)]),
        }
    )
    again = recorddict_from_proto(recorddict_to_proto(content))
    assert again == content


def test_damaged_statistics_cost_what_they_take():
    damaged = bytes([0, 5]) + b"\xff" * 30
    size, _ = sizes_of(Packet({"statistics": damaged}).content(), 8)
    assert size.ideal_bits == 8 * len(damaged)


def test_setup_is_told_apart_and_the_whole_is_the_sum():
    own, kept = b"x" * 100, b"y" * 1000
    content = Packet({SETUP + "encoder": kept, "model": own}).content()
    content[ROUND] = ConfigRecord({"number": 3})
    rest, setup = sizes_of(content, 8)
    assert (rest.payload_bytes, setup.payload_bytes) == (100, 1000)
    assert (rest.ideal_bits, setup.ideal_bits) == (800, 8000)
    assert rest.frame_bytes + setup.frame_bytes == recorddict_to_proto(content).ByteSize()


def test_every_message_of_a_run_is_there_once():
    site = dealt(clients=4)
    events, strategy = metered(site, FedAvg(FAST), 2, cohort=3)
    cohorts = [record.cohort for record in strategy.records]
    values = values_codec(site, 0).size
    for number, cohort in enumerate(cohorts, start=1):
        names = [f"device-{partition}" for partition in cohort]
        for stage in ("down", "step", "up"):
            assert [e.client for e in of(events, stage, number)] == names
        assert {e.payload_bytes for e in of(events, "down", number)} == {values}
        assert {e.payload_bytes for e in of(events, "up", number)} == {values + 8}
    for stage in ("evaluate-down", "evaluate", "evaluate-up"):
        assert [e.client for e in of(events, stage)] == [f"device-{n}" for n in range(4)]
        assert {e.round for e in of(events, stage)} == {2}
    assert len(of(events, "hello-down")) == len(of(events, "hello-up")) == 4
    assert {e.stage for e in events} <= set(STAGES)
    assert not of(events, "setup")
    priced = [e for e in events if e.payload_bytes is not None]
    assert {(e.wire_bytes, e.detail) for e in priced} == {(None, NO_SOCKET)}
    assert all(e.frame_bytes > 0 for e in priced if not e.stage.startswith("hello"))
    assert all(e.duration_s > 0 for e in of(events, "step"))


def test_what_a_client_keeps_is_sent_to_it_once():
    site = growing(clients=3)
    method = Reconnaissance(bits=5, pretraining=Pretraining(epochs=1))
    events, strategy = metered(site, method, 3)
    encoder = len(method.setup(site, strategy.state)["encoder"])
    assert sorted(e.client for e in of(events, "setup")) == ["device-0", "device-1", "device-2"]
    assert {e.payload_bytes for e in of(events, "setup")} == {encoder}
    assert {e.payload_bytes for e in of(events, "down")} == {0}
    for event in of(events, "up"):
        assert 0 < event.ideal_bits <= 8 * event.payload_bytes < 8 * event.frame_bytes


def test_masking_has_messages_of_its_own():
    site = growing(clients=3)
    method = Masked(Reconnaissance(pretraining=Pretraining(epochs=1)))
    events, strategy = metered(site, method, 1)
    assert strategy.records[0].merged == (0, 1, 2)
    assert {e.payload_bytes for e in of(events, "masking-up")} == {32}  # a key, then the own secret
    assert len(of(events, "masking-down")) == len(of(events, "masking-up")) == 6
    assert {e.payload_bytes for e in of(events, "up")} == {8 * 10 * (1 + site.dimension)}


def test_the_same_bytes_for_many_are_looked_at_once(monkeypatch):
    from fedsim.federated import metering

    looked = []
    real = metering.sizes_of
    monkeypatch.setattr(metering, "sizes_of", lambda content, d: looked.append(content) or real(content, d))
    site = dealt(clients=6)
    metered(site, FedProto(training=FAST), 1)
    broadcasts = {id(content) for content in looked if "packet" in content and ROUND in content}
    downs = [content for content in looked if ROUND in content]
    assert len(downs) == len(broadcasts) == 2  # training, evaluation
    assert sum(RESULTS in content for content in looked) == 6


def test_a_client_that_fails_is_in_the_ledger_with_its_reason():
    site = dealt(clients=3)

    class Broken(FedAvg):
        def step(self, site, client, packet):
            if client.partition == 1:
                raise RuntimeError("out of luck")
            return super().step(site, client, packet)

    meter = Meter("run", "row", site.dimension)
    method = Broken(FAST)
    strategy = MethodStrategy(site, method, Cohorts(3, 3, 0), 1)
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    run_inline(
        app,
        InlineGrid(client_app(lambda context: (site, method)), 3, sent=meter.sent, received=meter.received),
    )
    (failed,) = [e for e in meter.take() if e.outcome == "failed"]
    assert (failed.client, failed.stage, failed.payload_bytes, failed.frame_bytes) == (
        "device-1",
        "up",
        0,
        None,
    )
    assert "out of luck" in failed.detail
    assert strategy.records[0].merged == (0, 2)


def test_a_reply_that_is_lost_on_its_way_has_no_bytes():
    site, lost = dealt(clients=4), {1: {2}, 2: set()}
    method = FedAvg(FAST)
    events, _ = metered(site, method, 2, meter=Meter("run", "row", site.dimension, lost=lost.__getitem__))
    assert [e.client for e in of(events, "up", 1)] == ["device-0", "device-1", "device-3"]
    assert len(of(events, "up", 2)) == len(of(events, "step", 1)) == len(of(events, "down", 1)) == 4


def test_a_reply_without_a_packet_and_one_too_many_end_nothing():
    meter = Meter("run", "row", 8, here=False)
    content = Packet().content()
    content[ROUND] = ConfigRecord({"number": 1})
    with _server():
        message = Message(content, 1, MessageType.TRAIN)
    reply = Message(RecordDict({"packet": MetricRecord({"loss": 1.0})}), reply_to=meter.sent(0, message))
    assert meter.received(0, meter.received(0, reply)) is reply
    (up,) = of(meter.take(), "up")
    assert up.payload_bytes == 0 < up.frame_bytes


def test_times_of_clients_that_train_at_once_add_up_to_the_time_that_passed(monkeypatch):
    from fedsim.federated import metering

    clock = iter([10.0, 10.5, 15.0, 15.25])  # two are sent to, then two replies come
    monkeypatch.setattr(metering.time, "perf_counter", lambda: next(clock))
    meter = Meter("run", "row", 8)
    content = Packet().content()
    content[ROUND] = ConfigRecord({"number": 1})
    with _server():
        messages = [Message(content, node, MessageType.TRAIN) for node in (1, 2)]
    for handle in (meter.sent, meter.received):
        for partition, message in enumerate(messages):
            handle(partition, message)
    assert [e.duration_s for e in of(meter.take(), "step")] == [5.0, 0.25]


def test_on_a_run_that_goes_on_the_question_who_is_who_is_not_priced_again():
    site = dealt(clients=2)
    events, _ = metered(site, FedAvg(FAST), 1, meter=Meter("run", "row", site.dimension, hello=False))
    assert not [e for e in events if e.stage.startswith("hello")]
    assert len(of(events, "up")) == 2
