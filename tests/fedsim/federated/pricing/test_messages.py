"""Exchanges, read out of the ledger."""

import pytest

from fedsim.federated.local import LocalTraining
from fedsim.federated.methods.fedproto import FedProto
from fedsim.federated.pricing.messages import messages_of
from fedsim.federated.secure_aggregation import Masked

from ..conftest import dealt
from ..test_metering import metered, of
from .fleets import message, trained, worked


def test_a_round_is_one_exchange() -> None:
    events = [
        message("hello-down", 0, 7, 0),
        *trained([(100, 50), (200, 60)], 1, 0.5),
        worked("step", 2.0),
        worked("step", 1.0, "device-1"),
        message("evaluate-down", 0, 1000, 1),
        *trained([(300, 70)], 2),
    ]
    first, second, third = messages_of(events, [1, 2, 3])
    (one,) = first.exchanges
    assert one.clients.tolist() == [0, 1]
    assert one.down_bytes.tolist() == [114, 214]
    assert one.up_bytes.tolist() == [64, 74]
    assert one.training
    assert (first.host_s, first.merge_s) == (3.0, 0.5)
    assert (second.number, second.host_s, second.merge_s) == (2, None, 0.0)
    assert (third.number, third.exchanges) == (3, [])


def test_what_a_client_keeps_travels_in_its_first_message() -> None:
    events = [message("setup", 3, 1000), message("down", 3, 10), message("up", 3, 20)]
    (one,) = messages_of(events, [1], overhead=9)[0].exchanges
    assert (one.down_bytes.tolist(), one.up_bytes.tolist()) == ([1019], [29])


def test_who_is_not_heard_of_has_no_reply_and_who_fails_an_empty_one() -> None:
    events = [message("down", 10, 5), message("down", 2, 5), message("up", 2, None)]
    (one,) = messages_of(events, [1])[0].exchanges
    assert one.clients.tolist() == [2, 10]
    assert one.up_bytes.tolist() == [14, 0]


def test_masked_rounds_are_three_exchanges_and_every_byte_is_in_one_of_them() -> None:
    site = dealt(3)
    method = Masked(FedProto(LocalTraining(batch_size=64), weighting="count"), least=2)
    events, _ = metered(site, method, 1)
    for found in messages_of(events, [1], overhead=0):
        assert [one.training for one in found.exchanges] == [False, True, False]
        assert all(one.clients.tolist() == list(range(site.clients)) for one in found.exchanges)
        for ways, stages in (("down_bytes", ("masking-down", "down")), ("up_bytes", ("masking-up", "up"))):
            passed = sum(int(getattr(one, ways).sum()) for one in found.exchanges)
            counted = [e for stage in stages for e in of(events, stage, found.number)]
            assert passed == sum(event.frame_bytes for event in counted) > 0
    assert messages_of(events, [1])[0].host_s == pytest.approx(
        sum(event.duration_s for event in of(events, "step", 1))
    )
