"""Clients that are hostile, late or lost: named and left out, and the round goes on without them."""

import random
import re
import struct

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.prototypes import ClassStatistics, StatisticsCodec, StatisticsError
from fedsim.errors import FederationError
from fedsim.federated import method as methods
from fedsim.federated.checks import Limits, one_line
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid
from fedsim.federated.local import LocalTraining
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.packet import Packet
from fedsim.federated.pretraining import Pretraining

from .hostile import Without, app_with, raising, replying, run, small

LIAR, ROUND = 2, 2
METHOD = Reconnaissance(bits=64, pretraining=Pretraining(epochs=1))
LIMITS = Limits(payload_bytes=100_000)
DIMENSION = 64


@pytest.fixture(scope="module")
def site():
    return small()


@pytest.fixture(scope="module")
def start(site):
    return METHOD.start(site)


@pytest.fixture(scope="module")
def without(site, start):
    """What the server knows after a run in whose second round the liar has no part."""
    cohorts = Without(4, 4, site.seed, absent={ROUND: frozenset({LIAR})})
    strategy = run(site, METHOD, state=start, cohorts=cohorts, limits=LIMITS)
    assert strategy.state.to_bytes() != run(site, METHOD, state=start).state.to_bytes()
    return strategy


@pytest.fixture(scope="module")
def averaged_without(site):
    """The same of one round of federated averaging."""
    cohorts = Without(4, 4, site.seed, absent={1: frozenset({LIAR})})
    strategy = run(site, FEDAVG, cohorts=cohorts, rounds=1)
    assert strategy.state.to_bytes() != run(site, FEDAVG, rounds=1).state.to_bytes()
    return strategy


def statistics(rows=2, *, dimension=DIMENSION, value=1.0, count=3, first=0, slots=0, squares=False):
    ones = np.ones(rows, np.int64)
    return ClassStatistics(
        first + np.arange(rows),
        slots * ones,
        count * ones,
        np.full((rows, dimension), value),
        np.full((rows, dimension), value) if squares else None,
    )


def coded(found, bits=64):
    return {"statistics": StatisticsCodec(found.dimension, bits).encode(found).payload}


def broken(old: bytes, new: bytes, count=1) -> dict[str, bytes]:
    """Valid statistics, with some bytes in place of others."""
    payload = coded(statistics(value=1.5, count=77))["statistics"]
    assert old in payload
    return {"statistics": payload.replace(old, new, count)}


ONE_AND_A_HALF = struct.pack("<d", 1.5)
LIES = {
    "NaN": (broken(ONE_AND_A_HALF, struct.pack("<d", np.nan)), "values that are not finite"),
    "infinite": (broken(ONE_AND_A_HALF, struct.pack("<d", np.inf)), "values that are not finite"),
    "another dimension": (coded(statistics(dimension=65)), "statistics of 65 values of 64 bits, expected 64"),
    "other bits": (coded(statistics(), 32), "64 values of 32 bits, expected 64 of 64"),
    "cut off": ({"statistics": coded(statistics())["statistics"][:-1]}, "bytes for 128 values of 64 bits"),
    "no bytes": ({"statistics": b""}, "statistics end after 0 bytes"),
    "zero samples": (broken(b"\x4d", b"\x00"), "class 0 has 0 samples, a row has 1 or more"),
    "less than none": (broken(b"\x4d", b"\xff" * 9 + b"\x01"), "a number of more than 63 bits"),
    "an unknown class": (coded(statistics(3, first=8)), "class 10 is unknown; classes are 0 to 9"),
    "more classes than there are": (coded(statistics(11)), "11 rows"),
    "a class twice": (broken(b"\x02\x00\x01", b"\x02\x00\x00"), "class 0 stands out of order, or twice"),
    "several prototypes": (coded(statistics(slots=1)), "class 0 has several prototypes, expected one"),
    "squares": (coded(statistics(squares=True)), "statistics with squares"),
    "no class": (coded(statistics(0)), "statistics of no class"),
    "too many samples": (
        coded(statistics(count=1 << 40)),
        f"{2 << 40} samples, allowed are at most 16777216",
    ),
    "so many that they overflow": (coded(statistics(count=(1 << 62) + 1)), "samples, allowed are at most"),
    "far away": (coded(statistics(value=1e300)), r"a mean of class 0 is 3.33333e\+299, allowed are at most"),
    "oversized": ({**coded(statistics()), "more": bytes(200_000)}, "bytes, allowed are 100000"),
    "of another method": (
        {"model": bytes(4000), "count": bytes(8)},
        "no part 'statistics'; it has model, count",
    ),
    "an empty packet": ({}, "the message has no part 'statistics'; it has none"),
}


def empty(message, honest):
    return Message(RecordDict(), reply_to=message)


def arrays(message, honest):
    return Message(RecordDict({"packet": ArrayRecord([np.zeros(3)])}), reply_to=message)


def words(message, honest):
    return Message(RecordDict({"packet": ConfigRecord({"statistics": "all of them"})}), reply_to=message)


def of_another_kind(message, honest):
    reply = honest()
    reply.metadata.message_type = "evaluate"
    return reply


ACTS = {
    **{name: (replying(parts), said) for name, (parts, said) in LIES.items()},
    "raises": (raising, r"ArithmeticError'>:<'no such \[31mnumber'>"),
    "nothing at all": (lambda message, honest: None, "returned NoneType, not a Message"),
    "no packet": (empty, "a message without a packet: empty"),
    "arrays for a packet": (arrays, "a message without a packet: packet"),
    "words for bytes": (words, "a message without a packet: packet"),
    "another kind of reply": (
        of_another_kind,
        "a reply to 'evaluate' of round 2, asked was 'train' of round 2",
    ),
}


def refused(strategy, said, *, without, liar=LIAR):
    """The liar is named in its round alone, and all else is as if it had not been asked."""
    record = strategy.records[ROUND - 1]
    (rejection,) = record.rejected
    assert (rejection.round, rejection.partition) == (ROUND, liar)
    assert re.search(said, rejection.reason), rejection.reason
    assert record.merged == tuple(p for p in range(4) if p != liar)
    assert [one.merged for one in strategy.records if one.number != ROUND] == [(0, 1, 2, 3)] * 2
    assert strategy.state.to_bytes() == without.state.to_bytes()
    assert strategy.records[-1].results == without.records[-1].results


@pytest.mark.parametrize("name", ACTS)
def test_a_hostile_client_is_named_and_left_out(name, site, start, without):
    act, said = ACTS[name]
    app = app_with(site, METHOD, {(ROUND, LIAR): act})
    refused(run(site, METHOD, app, state=start, limits=LIMITS), said, without=without)


def test_a_reply_of_another_round(site, start, without):
    earlier = []

    def remember(message, honest):
        earlier.append(honest())
        return earlier[0]

    app = app_with(site, METHOD, {(1, LIAR): remember, (ROUND, LIAR): lambda message, honest: earlier[0]})
    said = "a reply to 'train' of round 1, asked was 'train' of round 2"
    refused(run(site, METHOD, app, state=start), said, without=without)


def test_a_reply_that_never_comes(site, start, without):
    def lose(partition, reply):
        where = (reply.metadata.message_type, reply.metadata.group_id, partition)
        return None if where == ("train", str(ROUND), LIAR) else reply

    strategy = run(site, METHOD, state=start, passages={"received": lose})
    refused(strategy, "^no reply in time$", without=without)


def test_replies_that_nobody_asked_for(site, start, without):
    """A second reply is as good as none; one of a node that is no client is not read at all."""

    class Generous(InlineGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = super().send_and_receive(messages, timeout=timeout)
            kinds = {(reply.metadata.message_type, reply.metadata.group_id) for reply in replies}
            if kinds != {("train", str(ROUND))}:
                return replies
            stranger = Message(Packet({"statistics": b""}).content(), reply_to=self.asked)
            stranger.metadata.__dict__["_src_node_id"] = 5
            return [*replies, replies[LIAR], stranger]

        def push_messages(self, messages):
            asked = list(messages)
            self.asked = asked[0] if asked else None
            return super().push_messages(asked)

    refused(run(site, METHOD, state=start, grid=Generous), "^more than one reply$", without=without)

    cohorts = Without(4, 4, site.seed, absent={ROUND: frozenset({LIAR})})

    class Forward(Generous):
        def send_and_receive(self, messages, *, timeout=None):
            replies = InlineGrid.send_and_receive(self, messages, timeout=timeout)
            if self.asked is not None and self.asked.metadata.group_id == str(ROUND):
                again = Message(replies[0].content, reply_to=self.asked)
                again.metadata.__dict__["_src_node_id"] = self.get_node_ids()[LIAR]
                return [*replies, again]
            return replies

    strategy = run(site, METHOD, state=start, grid=Forward, cohorts=cohorts)
    refused(strategy, "^a reply, and it was not asked$", without=without)


def test_where_all_are_refused_the_state_stays(site, start):
    lies = [replying(parts) for parts, _ in LIES.values()]
    acts = {(number, p): lies[4 * number + p] for number in (1, 2, 3) for p in range(4)}
    strategy = run(site, METHOD, app_with(site, METHOD, acts), state=start, limits=LIMITS)
    assert strategy.state.to_bytes() == start.to_bytes()
    assert [record.number for record in strategy.records] == [1, 2, 3]
    for record in strategy.records:
        assert record.cohort == (0, 1, 2, 3)
        assert record.merged == ()
        assert [one.partition for one in record.rejected] == [0, 1, 2, 3]
    assert len(strategy.records[-1].results) == 4


FEDAVG = methods.find("fedavg")(training=LocalTraining(batch_size=64))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model, count: (np.full_like(model, np.nan), count), "values that are not finite"),
        (lambda model, count: (model[:-1], count), "bytes, expected"),
        (
            lambda model, count: (np.full_like(model, 1e30), count),
            r"has a value of 1e\+30, allowed are at most 1e",
        ),
        (lambda model, count: (model, 0), "a client of 0 samples"),
        (lambda model, count: (model, 1 << 30), "1073741824 samples, allowed are at most 16777216"),
        (lambda model, count: (model, 1 << 63), "a client of 9223372036854775808 samples"),
    ],
    ids=["NaN", "cut off", "far away", "no samples", "too many samples", "far too many samples"],
)
def test_hostile_weights(change, said, site, averaged_without):
    def lie(message, honest):
        parts = Packet.of(honest().content).parts
        model = np.frombuffer(parts["model"], "<f4", offset=4).copy()
        model, count = change(model, int.from_bytes(parts["count"], "little"))
        sent = {"model": parts["model"][:4] + model.tobytes(), "count": count.to_bytes(8, "little")}
        return Message(Packet(sent).content(), reply_to=message)

    found = run(site, FEDAVG, app_with(site, FEDAVG, {(1, LIAR): lie}), rounds=1)
    (rejection,) = found.records[0].rejected
    assert rejection.partition == LIAR
    assert re.search(said, rejection.reason), rejection.reason
    assert found.state.to_bytes() == averaged_without.state.to_bytes()


READERS = [Reconnaissance(bits=bits) for bits in (5, 32, 64)] + [
    methods.find(name)() for name in ("fedavg", "fedproto", "fedtgp")
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(READERS), st.data())
def test_whatever_comes_is_read_or_refused_and_nothing_else(method, data):
    """Bytes drawn, and honest ones with some changed: the server fails of neither."""
    bits = getattr(method, "bits", None)
    names = ("model", "count") if bits is None else ("statistics",)
    if bits is not None and data.draw(st.booleans()):
        payload = bytearray(coded(statistics(value=0.5), bits)["statistics"])
        for at in data.draw(st.lists(st.integers(0, len(payload) - 1), max_size=4)):
            payload[at] = data.draw(st.integers(0, 255))
        parts = {"statistics": bytes(payload)}
    else:
        parts = {name: data.draw(st.binary(max_size=200)) for name in names}
    try:
        update = method.receive(FUZZED, Packet(parts))
    except (FederationError, StatisticsError):
        return
    assert isinstance(update, ClassStatistics)
    assert np.isfinite(update.sums).all()
    assert len(update) >= 1


FUZZED = small()


# Evaluation


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prototypes/all/global": [10**9, 10**9]}, "1000000000 samples, there are 60"),
        ({"prototypes/all/personal": [1, 100_000]}, "100000 samples, there are"),
        ({"prototypes/all/global": [5, 4]}, "has 5 right of 4"),
        ({"\x1b[2J/all/global": [1, 2]}, r"a result of a predictor called ' ?\[2J'"),
        ({f"{'a' * 65}/all/global": [1, 2]}, "a result of a predictor called 'aaa"),
        ({f"p{n}/all/global": [1, 2] for n in range(65)}, "65 results, allowed are at most 64"),
        ({"nothing": 1}, "a result called 'nothing'"),
        (None, "a reply without results"),
    ],
)
def test_results_that_cannot_be(record, said, site, start):
    def lie(message, honest):
        content = RecordDict() if record is None else RecordDict({"results": ConfigRecord(record)})
        return Message(content, reply_to=message)

    app = app_with(site, METHOD, {(1, LIAR): lie}, kind="evaluate")
    (found,) = run(site, METHOD, app, state=start, rounds=1).records
    assert sorted(found.results) == [0, 1, 3]
    (rejection,) = found.rejected
    assert rejection.partition == LIAR
    assert rejection.reason.startswith("evaluation: ")
    assert re.search(said, rejection.reason), rejection.reason
    assert found.merged == (0, 1, 2, 3)


# Ahead of the first round


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RecordDict(), "has partition None of 4"),
        (RecordDict({"hello": MetricRecord({"partition": 1})}), "has partition None of 4"),
        (RecordDict({"hello": ConfigRecord({"partition": 4})}), "has partition 4 of 4"),
        (RecordDict({"hello": ConfigRecord({"partition": 0})}), "two nodes have partition 0"),
    ],
)
def test_a_node_that_does_not_say_who_it_is_ends_the_run(content, said, site, start):
    def lie(message, honest):
        return Message(content, reply_to=message)

    with pytest.raises(FederationError, match=said):
        run(site, METHOD, app_with(site, METHOD, {(0, LIAR): lie}, kind="query"), state=start)


class Fewer(InlineGrid):
    """One client's node has gone."""

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if self.partition_of(node) != LIAR]


def test_a_client_that_has_gone_is_not_waited_for_and_counts_as_silent(site, start):
    cohorts = Without(4, 4, site.seed, absent={number: frozenset({LIAR}) for number in (1, 2, 3)})
    expected = run(site, METHOD, state=start, cohorts=cohorts)
    strategy = run(site, METHOD, state=start, grid=Fewer, absent=[LIAR])
    assert strategy.state.to_bytes() == expected.state.to_bytes()
    for record in strategy.records:
        assert record.merged == (0, 1, 3)
        assert {(one.partition, one.reason) for one in record.rejected if one.partition == LIAR} >= {
            (LIAR, "it has gone")
        }


def test_a_client_that_has_gone_and_is_there_again_takes_part(site, start):
    strategy = run(site, METHOD, state=start, absent=[LIAR])
    assert [record.merged for record in strategy.records] == [(0, 1, 2, 3)] * 3


@pytest.mark.parametrize("absent", [[], [0]])
def test_a_client_that_is_missed_ends_the_run(absent, site, start):
    said = f"3 of {4 - len(absent)} clients" if not absent else f"it has partition {LIAR}"
    with pytest.raises(FederationError, match=said):
        run(site, METHOD, state=start, grid=Fewer, absent=absent, limits=Limits(nodes_s=0.1))


@pytest.mark.parametrize("answers", [True, False])
def test_a_node_that_has_gone_but_is_still_listed_is_left_out(answers, site, start):
    class Listed(InlineGrid):
        """One client's node has been started again, and is listed twice."""

        def get_node_ids(self):
            return [*super().get_node_ids(), 99]

        def push_messages(self, messages):
            asked = list(messages)
            self.gone = [one for one in asked if one.metadata.dst_node_id == 99]
            numbers = super().push_messages([one for one in asked if one.metadata.dst_node_id != 99])
            for one in self.gone:  # which is the last
                one.metadata.__dict__["_message_id"] = "gone"
            return [*numbers, *("gone" for _ in self.gone)]

        def pull_messages(self, message_ids):
            error = Error(ErrorCode.NODE_UNAVAILABLE, "gone")
            errors = [Message(error, reply_to=one) for one in self.gone if answers]
            return super().pull_messages(message_ids) + errors

    strategy = run(site, METHOD, state=start, grid=Listed)
    assert [record.merged for record in strategy.records] == [(0, 1, 2, 3)] * 3


# What a client is given to keep


def test_a_client_that_missed_what_it_is_to_keep_is_sent_it_again(site, start):
    sizes: dict[tuple[str, int], int] = {}

    def sent(partition, message):
        where = (message.metadata.group_id, partition)
        if message.metadata.message_type != "train":
            return message
        sizes[where] = len(message.content["packet"])
        return None if where == ("1", LIAR) else message

    strategy = run(site, METHOD, state=start, passages={"sent": sent})
    assert [len(record.rejected) for record in strategy.records] == [1, 0, 0]
    assert [sizes[number, LIAR] for number in "123"] == [1, 1, 0]
    assert [sizes[number, 0] for number in "123"] == [1, 0, 0]


def test_a_client_that_forgot_what_it_was_to_keep_is_sent_it_again(site, start, without):
    class Forgetful(InlineGrid):
        def push_messages(self, messages):
            asked = list(messages)
            kinds = {(one.metadata.message_type, one.metadata.group_id) for one in asked}
            if kinds == {("train", str(ROUND))}:
                self.context(LIAR).state.clear()
            return super().push_messages(asked)

    refused(run(site, METHOD, state=start, grid=Forgetful), "KeyError.*encoder", without=without)


# Partial participation, dropout, time


class Shuffled(InlineGrid):
    """Node ids that are random, and in no order of the partitions, as Flower's are."""

    seed = 0

    def get_node_ids(self):
        ids = random.Random(self.seed).sample(range(1, 1 << 62), len(super().get_node_ids()))
        return ids

    def partition_of(self, node_id):
        return self.get_node_ids().index(node_id)


def test_the_same_seed_gives_the_same_cohorts_and_result_whatever_the_nodes_are_called(site, start):
    cohorts = Cohorts(4, 3, seed=5, dropout=0.3)
    expected = run(site, METHOD, state=start, cohorts=cohorts, rounds=6)
    assert any(record.lost for record in expected.records)
    assert len({record.cohort for record in expected.records}) > 1
    for seed in (1, 2, 3):
        grid = type("Grid", (Shuffled,), {"seed": seed})
        found = run(site, METHOD, state=start, cohorts=cohorts, rounds=6, grid=grid)
        assert found.records == expected.records
        assert found.state.to_bytes() == expected.state.to_bytes()


def test_who_drops_out_has_no_part(site, start):
    cohorts = Cohorts(4, 4, seed=5, dropout=0.4)
    found = run(site, METHOD, state=start, cohorts=cohorts)
    lost = {number: cohorts.lost(number) for number in (1, 2, 3)}
    assert any(lost.values())
    expected = run(site, METHOD, state=start, cohorts=Without(4, 4, 5, absent=lost))
    assert found.state.to_bytes() == expected.state.to_bytes()
    for record in found.records:
        assert record.lost == tuple(sorted(lost[record.number]))
        assert record.merged == tuple(p for p in range(4) if p not in record.lost)
        assert record.rejected == ()


def test_a_straggler_has_no_part_and_is_recorded_with_how_late_it_was(site, start):
    cohorts = Cohorts(4, 4, site.seed, deadline_s=60, slowness={LIAR: 1e12, 1: 1e-3})
    found = run(site, METHOD, state=start, cohorts=cohorts)
    late = {number: frozenset({LIAR}) for number in (1, 2, 3)}
    expected = run(site, METHOD, state=start, cohorts=Without(4, 4, site.seed, absent=late))
    assert found.state.to_bytes() == expected.state.to_bytes()
    for record in found.records:
        assert list(record.late) == [LIAR]
        assert record.late[LIAR] > 0
        assert record.merged == (0, 1, 3)
        assert record.rejected == ()
    everybody = Cohorts(4, 4, site.seed, deadline_s=3600)
    in_time = run(site, METHOD, state=start, cohorts=everybody)
    assert in_time.state.to_bytes() == run(site, METHOD, state=start).state.to_bytes()
    assert [record.late for record in in_time.records] == [{}] * 3


def test_how_late(site):
    cohorts = Cohorts(4, 4, 0, deadline_s=10, slowness={1: 8.0})
    assert cohorts.late(0, 9.5) == 0
    assert cohorts.late(0, 12.5) == 2.5
    assert cohorts.late(1, 2.0) == 6.0
    assert Cohorts(4, 4, 0, slowness={1: 8.0}).late(1, 1e9) == 0


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), None, [1.0]])
def test_a_client_that_says_no_time_where_it_counts(seconds, site, start, without):
    def timeless(message, honest):
        reply = honest()
        del reply.content["time"]
        if seconds is not None:
            reply.content["time"] = MetricRecord({"seconds": seconds})
        return reply

    app = app_with(site, METHOD, {(ROUND, LIAR): timeless})
    strategy = run(site, METHOD, app, state=start, cohorts=Cohorts(4, 4, site.seed, deadline_s=3600))
    refused(strategy, "a reply without the time that it took", without=without)


def test_no_time_travels_where_it_does_not_count(site, start):
    seen = set()

    def received(partition, reply):
        if reply.metadata.message_type == "train":
            seen.add(tuple(reply.content))
        return reply

    run(site, METHOD, state=start, passages={"received": received})
    assert seen == {("packet",)}


def test_engines_that_wait_are_given_the_limit(site, start):
    waits = set()

    class Waiting(InlineGrid):
        def send_and_receive(self, messages, *, timeout=None):
            waits.add(timeout)
            return super().send_and_receive(messages, timeout=timeout)

    run(site, METHOD, state=start, grid=Waiting, limits=Limits(reply_s=12.5, nodes_s=0.5))
    assert waits == {12.5}


@pytest.mark.parametrize("name", ["payload_bytes", "samples", "magnitude", "nodes_s", "reply_s"])
def test_limits_that_nothing_keeps(name):
    with pytest.raises(FederationError, match=f"the limit {name} is 0, allowed is more than 0"):
        Limits(**{name: 0})


@given(st.text())
def test_what_a_client_says_is_one_line_that_can_be_printed(text):
    shown = one_line(text)
    assert len(shown) <= 300
    assert shown.isprintable()
    assert one_line(None) == ""
