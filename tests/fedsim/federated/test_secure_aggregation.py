"""Rounds of which the server sees the sum alone."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message

from edge.prototypes import ClassStatistics, StatisticsError
from fedsim.errors import FederationError
from fedsim.federated import method as methods
from fedsim.federated.checks import Limits
from fedsim.federated.clients import client_app, kept_by
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid
from fedsim.federated.local import LocalTraining
from fedsim.federated.masking import FixedPoint, Keys, stream, unmasked
from fedsim.federated.method import Client
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.packet import Packet
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.privacy import GaussianPrivacy
from fedsim.federated.secure_aggregation import Masked

from .hostile import Without, app_with, raising, replying, run, small

LIAR, ROUND, CLIENTS = 2, 2, 4
PLAIN = Reconnaissance(bits=64, pretraining=Pretraining(epochs=1))
MASKED = Masked(PLAIN)
ROUNDING = 2.0**-25  # of one client's sum


@dataclass(frozen=True)
class Blind(Reconnaissance):
    """What the server has of the method: it must not read a client's statistics, and merges one sum."""

    def receive(self, site, packet):
        raise AssertionError("the server read a single client's statistics")

    def merge(self, site, state, updates):
        assert len(updates) == 1
        return super().merge(site, state, updates)


BLIND = Masked(Blind(bits=64, pretraining=PLAIN.pretraining))


@pytest.fixture(scope="module")
def site():
    return small(CLIENTS)


@pytest.fixture(scope="module")
def start(site):
    return PLAIN.start(site)


def masked_run(site, start, app=None, server=BLIND, **options):
    app = app or client_app(lambda context: (site, MASKED))
    return run(site, server, app, state=start, **options)


def without(site, start, absent, **options):
    """The same run, unmasked, of those clients only that are there."""
    cohorts = Without(CLIENTS, CLIENTS, site.seed, absent=absent)
    return run(site, PLAIN, state=start, cohorts=cohorts, **options)


def same(found, expected, rounds=3):
    """Counts are equal, and sums but for the rounding of each client's to 24 bits behind the point."""
    one, other = (strategy.state.statistics["statistics"] for strategy in (found, expected))
    assert np.array_equal(one.classes, other.classes)
    assert np.array_equal(one.counts, other.counts)
    assert np.abs(one.sums - other.sums).max() <= 1.01 * rounds * CLIENTS * ROUNDING


def test_the_sum_is_that_of_the_clients_and_none_of_them_is_read(site, start):
    found = masked_run(site, start)
    same(found, without(site, start, {}))
    assert [record.merged for record in found.records] == [(0, 1, 2, 3)] * 3
    assert [(record.rejected, record.void) for record in found.records] == [((), "")] * 3
    assert found.records[-1].results.keys() == {0, 1, 2, 3}


def test_what_travels_of_a_single_client_looks_random(site, start):
    sent, own = [], {}

    def received(partition, reply):
        if reply.metadata.message_type == "train":
            sent.append(MASKED.receive(site, Packet.of(reply.content)))
        if reply.metadata.message_type == "query.unmask":
            own[partition] = Packet.of(reply.content)["secrets"]
        return reply

    masked_run(site, start, rounds=1, passages={"received": received})
    form = FixedPoint(site.classes, site.dimension)
    for words in sent:
        with pytest.raises(StatisticsError, match="the masks did not cancel"):
            form.decode(words)
        assert abs(np.unpackbits(words.view(np.uint8)).mean() - 0.5) < 0.02
    total = form.decode(unmasked(np.sum(sent, axis=0, dtype=np.uint64), own, {}))
    assert total.counts.sum() == sum(len(share.samples(1)) for share in site.shares)


class Unread(ConfigRecord):
    """A packet of a reply that must not be looked at."""

    def values(self):
        raise AssertionError("the reply of a client that dropped out was read")

    __getitem__ = get = items = __iter__ = values


@pytest.mark.parametrize(
    "cohorts",
    [Cohorts(CLIENTS, CLIENTS, 27, dropout=0.3), Cohorts(CLIENTS, CLIENTS, 0, 0.0, 60.0, {LIAR: 1e12})],
    ids=["lost", "late"],
)
def test_a_client_that_drops_out_is_taken_out_and_its_late_reply_not_read(cohorts, site, start):
    absent = {n: cohorts.lost(n) if cohorts.dropout else frozenset({LIAR}) for n in (1, 2, 3)}
    assert any(absent.values())
    trapped, asked = [], []

    def received(partition, reply):
        number = int(reply.metadata.group_id or 0)
        if reply.metadata.message_type == "query.unmask":
            asked.append((number, partition))
        if reply.metadata.message_type != "train" or partition not in absent[number]:
            return reply
        trapped.append((number, partition))
        reply.content["packet"] = Unread()
        return reply

    found = masked_run(site, start, cohorts=cohorts, passages={"received": received})
    same(found, without(site, start, absent))
    assert trapped == [(n, p) for n in (1, 2, 3) for p in sorted(absent[n])]
    present = {n: [p for p in range(CLIENTS) if p not in absent[n]] for n in absent}
    assert asked == [(n, p) for n, some in present.items() for p in some]
    for record in found.records:
        gone = set(record.lost) | set(record.late)
        assert gone == absent[record.number]
        assert (record.rejected, record.void) == ((), "")


# Hostile clients


def key(public):
    return replying({"public": public})


OTHERS = []


def as_another(message, honest):
    return Message(Packet({"public": OTHERS[-1]}).content(), reply_to=message)


def remembered(message, honest):
    reply = honest()
    OTHERS.append(Packet.of(reply.content)["public"])
    return reply


@pytest.mark.parametrize(
    ("kind", "act", "said"),
    [
        ("query.keys", raising, "ArithmeticError"),
        ("query.keys", replying({}), "no part 'public'"),
        ("query.keys", key(b"short"), "a public key that is none"),
        ("query.keys", key(bytes(32)), "a public key that is none"),  # any secret made of it is zero
        ("query.keys", key(bytes(200_000)), "a reply of 200000 bytes, allowed are 100000"),
        ("query.keys", as_another, "the public key of another client"),
        ("train", raising, "ArithmeticError"),
        ("train", replying({}), "no part 'masked'"),
        ("train", replying({"masked": bytes(8)}), "masked statistics of 8 bytes, expected 5200"),
        ("train", replying({"masked": bytes(5200), "more": bytes(10**6)}), "a reply of 1005200 bytes"),
        ("train", lambda message, honest: None, "returned NoneType"),
    ],
)
def test_a_hostile_client_is_named_and_taken_out(kind, act, said, site, start):
    acts = {(ROUND, LIAR): act, **({(ROUND, 0): remembered} if act is as_another else {})}
    app = app_with(site, MASKED, acts, kind=kind)
    found = masked_run(site, start, app, limits=Limits(payload_bytes=100_000))
    same(found, without(site, start, {ROUND: frozenset({LIAR})}))
    (rejection,) = found.records[ROUND - 1].rejected
    assert rejection.partition == LIAR
    assert re.search(said, rejection.reason), rejection.reason
    assert found.records[ROUND - 1].merged == (0, 1, 3)
    assert [record.merged for record in found.records if record.number != ROUND] == [(0, 1, 2, 3)] * 2


def noise(message, honest):
    honest()  # it has to take note of the keys, or it would be named for the secrets that it cannot tell
    random = np.random.default_rng(0).integers(0, 1 << 64, 650, np.uint64)
    return Message(Packet({"masked": random.tobytes()}).content(), reply_to=message)


def boasting(message, honest):
    """A sum that can be read, of more samples than anybody may have."""
    words = np.frombuffer(Packet.of(honest().content)["masked"], "<u8").copy().reshape(10, 65)
    words[3, 0] += np.uint64(1 << 26 << 24)
    return Message(Packet({"masked": words.tobytes()}).content(), reply_to=message)


@pytest.mark.parametrize(
    ("act", "said"),
    [(noise, "the masks did not cancel"), (boasting, "the masked sum is refused: 67108983 samples")],
)
def test_words_that_are_wrong_make_the_round_void(act, said, site, start):
    app = app_with(site, MASKED, {(ROUND, LIAR): act})
    found = masked_run(site, start, app)
    same(found, without(site, start, {ROUND: frozenset(range(CLIENTS))}))
    record = found.records[ROUND - 1]
    assert said.replace("67108983", str((1 << 26) + samples_of(site))) in record.void
    assert (record.merged, record.rejected) == ((), ())


def samples_of(site):
    return sum(len(share.samples(ROUND)) for share in site.shares)


@pytest.mark.parametrize(
    ("act", "said", "named"),
    [
        (raising, "no secrets of clients 0, without which the sum stays masked", {0: "ArithmeticError"}),
        (
            replying({"secrets": bytes(63)}),
            "no secrets of clients 0",
            {0: "63 bytes of secrets, expected 64"},
        ),
        (replying({"secrets": bytes(64)}), "the masks did not cancel", {}),
    ],
    ids=["raises", "too short", "another secret"],
)
def test_secrets_that_are_not_told_make_the_round_void(act, said, named, site, start):
    def gone(partition, reply):
        where = (reply.metadata.message_type, reply.metadata.group_id, partition)
        return None if where == ("train", str(ROUND), LIAR) else reply

    app = app_with(site, MASKED, {(ROUND, 0): act}, kind="query.unmask")
    found = masked_run(site, start, app, passages={"received": gone})
    same(found, without(site, start, {ROUND: frozenset(range(CLIENTS))}))
    record = found.records[ROUND - 1]
    assert said in record.void
    reasons = {one.partition: one.reason for one in record.rejected}
    assert reasons.keys() == {*named, LIAR}
    assert reasons[LIAR] == "no reply in time"
    assert all(text in reasons[partition] for partition, text in named.items())


def test_where_too_few_are_left_nothing_is_read(site, start):
    acts = {(ROUND, p): raising for p in (0, 1, 3)}
    for kind in ("query.keys", "train"):
        trained = []

        def received(partition, reply, trained=trained):
            trained.append((reply.metadata.message_type, reply.metadata.group_id))
            return reply

        app = app_with(site, MASKED, acts, kind=kind)
        found = masked_run(site, start, app, passages={"received": received})
        same(found, without(site, start, {ROUND: frozenset(range(CLIENTS))}))
        record = found.records[ROUND - 1]
        assert record.void == "1 clients are left, a masked sum is of 2 or more"
        assert [one.partition for one in record.rejected] == [0, 1, 3]
        assert (("train", str(ROUND)) in trained) == (kind == "train")
        assert ("query.unmask", str(ROUND)) not in trained


# What a client lets itself in for


def clients_of(partitions, number=1):
    """Clients with keys, and the part of a message that has those of all."""
    clients = {p: Client(p, number, np.zeros(0, np.int64), {}) for p in partitions}
    public = {p: MASKED.keys(client)["public"] for p, client in clients.items()}
    return clients, public


def all_keys(public):
    return b"".join(p.to_bytes(4, "little") + one for p, one in public.items())


def step(site, start, client, public):
    kept = {"encoder": MASKED.setup(site, start)["encoder"], **client.kept}
    trained = Client(client.partition, client.round, site.shares[client.partition].samples(1), kept)
    return trained, MASKED.step(site, trained, Packet({"masking:peers": all_keys(public)}))


def test_a_client_sends_nothing_under_keys_that_would_lay_it_open(site, start):
    clients, public = clients_of((0, 1, 2))
    for wrong, said in (
        ({0: public[0]}, "the keys of 1 clients; expected are this one's and 2 in all"),
        ({1: public[1], 2: public[2]}, "expected are this one's"),
        ({0: Keys().public, 1: public[1]}, "expected are this one's"),
        ({**public, 2: public[1]}, "two clients have the same public key"),
        ({**public, 2: bytes(32)}, "a public key that is none"),
    ):
        with pytest.raises(FederationError, match=said):
            step(site, start, clients[0], wrong)
    with pytest.raises(FederationError, match="public keys of 5 bytes"):
        MASKED.step(site, clients[0], Packet({"masking:peers": bytes(5)}))
    later = Client(0, 2, np.zeros(0, np.int64), clients[0].kept)
    with pytest.raises(FederationError, match="no keys of round 2"):
        MASKED.step(site, later, Packet({"masking:peers": all_keys(public)}))


def test_a_client_tells_secrets_once_and_only_where_enough_others_stay(site, start):
    clients, public = clients_of((0, 1, 2))
    trained, _ = step(site, start, clients[0], public)

    def told(*absent):
        return MASKED.unmask(trained, Packet({"absent": np.array(absent, "<u4").tobytes()}))

    for absent in ((1, 2), (0,), (0, 1), (3,)):
        with pytest.raises(FederationError, match=f"{len(absent)} of 3 clients are not told; 2 have to stay"):
            told(*absent)
    own = Keys(clients[0].kept["passing:key"][8:]).own_secret(1)
    assert told(2)["secrets"] == own + Keys(clients[2].kept["passing:key"][8:]).secret(public[0], 1)
    with pytest.raises(FederationError, match="no keys of round 1"):
        told(2)


def test_a_client_sends_nothing_twice_under_the_same_keys(site, start):
    """Two replies with the same masks would tell what lies between them, such as the noise of one."""
    clients, public = clients_of((0, 1, 2))
    trained, _ = step(site, start, clients[0], public)
    with pytest.raises(FederationError, match="the keys of round 1 have been used"):
        step(site, start, trained, public)
    fresh = MASKED.keys(trained)
    step(site, start, trained, {**public, 0: fresh["public"]})


def test_what_a_client_sent_that_is_taken_for_gone_stays_masked(site, start):
    """The server has the words of all three, and all that the two others tell of the third."""
    form = FixedPoint(site.classes, site.dimension)
    clients, public = clients_of((0, 1, 2))
    trained, words = {}, {}
    for partition, client in clients.items():
        trained[partition], packet = step(site, start, client, public)
        words[partition] = MASKED.receive(site, packet)
    absent = Packet({"absent": np.array([LIAR], "<u4").tobytes()})
    told = {p: MASKED.unmask(trained[p], absent)["secrets"] for p in (0, 1)}
    own, shared = ({p: secrets[at : at + 32] for p, secrets in told.items()} for at in (0, 32))
    found = unmasked(words[0] + words[1], own, {(p, LIAR): secret for p, secret in shared.items()})
    assert form.decode(found).counts.sum() == sum(len(site.shares[p].samples(1)) for p in (0, 1))
    laid_open = words[LIAR] + stream(shared[0], words[LIAR].size).reshape(words[LIAR].shape)
    laid_open = laid_open + stream(shared[1], words[LIAR].size).reshape(words[LIAR].shape)
    assert abs(np.unpackbits(laid_open.view(np.uint8)).mean() - 0.5) < 0.02
    with pytest.raises(StatisticsError, match="the masks did not cancel"):
        form.decode(laid_open)
    with pytest.raises(FederationError, match="are not told"):
        MASKED.unmask(trained[LIAR], absent)


def test_a_client_that_is_to_mask_does_not_reply_otherwise_and_the_reverse(site, start):
    plain_server = run(site, PLAIN, client_app(lambda context: (site, MASKED)), state=start, rounds=1)
    assert plain_server.records[0].merged == ()
    assert all("no keys of round 1" in one.reason for one in plain_server.records[0].rejected)
    plain_clients = run(site, MASKED, client_app(lambda context: (site, PLAIN)), state=start, rounds=1)
    assert plain_clients.records[0].merged == ()
    assert all(
        "Reconnaissance is not masked on this client" in one.reason
        for one in plain_clients.records[0].rejected
    )


def test_keys_are_of_one_round_and_not_kept_with_the_run(site, start):
    grids = []

    class Kept(InlineGrid):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            grids.append(self)

    kept = {}

    def received(partition, reply):
        if (kind := reply.metadata.message_type) != "query":
            kept[kind] = set(grids[0].context(partition).state["kept"])
        return reply

    masked_run(site, start, grid=Kept, passages={"received": received})
    (grid,) = grids
    assert kept["train"] == {"encoder", "passing:key", "passing:peers"}
    assert kept["query.unmask"] == {"encoder"}
    grid.context(0).state["kept"]["passing:key"] = b"of a round that was broken off"
    assert {tuple(values) for values in kept_by(grid).values()} == {("encoder",)}


# Methods


@pytest.mark.parametrize("name", ["fedavg", "fedtgp", "local", "fedproto", "fedsa"])
def test_methods_that_need_single_updates_refuse(name):
    hint = "; with weighting 'count' that is enough" if name in {"fedproto", "fedsa"} else ""
    with pytest.raises(FederationError, match=f"(?i){name} cannot be masked: .*, and it needs more{hint}$"):
        Masked(methods.find(name)())
    with pytest.raises(FederationError, match="Masked cannot be masked"):
        Masked(MASKED)


@pytest.mark.parametrize("name", ["fedproto", "fedsa"])
def test_prototypes_weighted_by_samples_are_masked_as_well(name, site):
    method = methods.find(name)(training=LocalTraining(batch_size=32), weighting="count")
    found, expected = (run(site, one, rounds=1).state for one in (Masked(method), method))
    one, other = (state.statistics["prototypes"] for state in (found, expected))
    assert np.array_equal(one.counts, other.counts)
    assert np.abs(one.sums - other.sums).max() <= 1.01 * CLIENTS * ROUNDING


def test_options_out_of_bounds():
    with pytest.raises(FederationError, match="least is 1, a sum is of 2 clients or more"):
        Masked(PLAIN, least=1)
    with pytest.raises(FederationError, match="share_noise, and the method adds no noise"):
        Masked(PLAIN, share_noise=True)


def test_noise_that_is_shared_adds_up_to_what_is_asked_for(site, start):
    """Of four clients that each add a half of the deviation, the sum has all of it, and not twice."""
    quiet, loud = (
        Reconnaissance(
            bits=64, pretraining=PLAIN.pretraining, privacy=GaussianPrivacy(clip=100.0, noise=noise, seed=3)
        )
        for noise in (0.0, 5.0)
    )
    deviation = loud.privacy.noise * loud.privacy.sensitivity
    words = {}
    for share, factor in ((True, 1.0), (False, 2.0)):
        for method in (quiet, loud):
            masked = Masked(method, least=4, share_noise=share)
            clients = [
                Client(
                    p, number, site.shares[p].samples(1), {"encoder": masked.setup(site, start)["encoder"]}
                )
                for p in range(4)
                for number in range(1, 9)
            ]
            found = [masked._words(site, client, Packet()) for client in clients]
            words[method] = np.reshape(found, (4, 8, 10, 65)).sum(0, dtype=np.uint64).view(np.int64)
        apart = (words[loud] - words[quiet])[..., 1:] / 2.0**24
        assert np.std(apart) == pytest.approx(factor * deviation, rel=0.03)
    run(site, Masked(quiet, least=4, share_noise=True), state=start, rounds=1)
    noisy = run(site, Masked(loud, least=4, share_noise=True), state=start, rounds=1)
    assert noisy.records[0].merged == (0, 1, 2, 3)
    merged = noisy.state.statistics["statistics"]
    assert isinstance(merged, ClassStatistics)
    assert merged.counts.min() >= 1
