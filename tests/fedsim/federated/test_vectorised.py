"""Many small models trained at once come to what each comes to by itself."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from flwr.serverapp import ServerApp
from torch import nn

from fedsim.errors import FederationError
from fedsim.federated import method as methods
from fedsim.federated import vectorised
from fedsim.federated.clients import client_app, give_back, kept_by
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.local import LocalTraining, cross_entropy
from fedsim.federated.methods.local import Local
from fedsim.federated.networks import PrototypeNetwork, prototype_network
from fedsim.federated.personal import values_codec
from fedsim.federated.site import parameters_of
from fedsim.federated.strategy import MethodStrategy
from fedsim.federated.vectorised import obstacle, train_batched, train_together
from fedsim.training import loop
from fedsim.training.loop import Images

from .conftest import dealt

TRAINING = LocalTraining(epochs=1, batch_size=16, learning_rate=0.02, momentum=0.5)


def network(backbone="digits-cnn", **arguments):
    torch.manual_seed(0)
    return prototype_network(backbone, arguments or {"widths": [4, 8, 16]}, (1, 8, 8), 10)


def perceptron(*more):
    torch.manual_seed(0)
    layers = OrderedDict(flatten=nn.Flatten(), hidden=nn.Linear(64, 32), relu=nn.ReLU())
    layers.update({f"more{number}": module for number, module in enumerate(more)})
    return PrototypeNetwork(nn.Sequential(layers), 32, 10)


def shared_out(counts):
    """Images of clients of so many samples each."""
    site = dealt(clients=1)
    order = np.random.default_rng(0).permutation(len(site.labels))
    parts = np.split(order, np.cumsum(counts))[: len(counts)]
    return [
        Images(site.images[torch.from_numpy(part)], site.labels[torch.from_numpy(part)]) for part in parts
    ]


def generators(count):
    return [torch.Generator().manual_seed(100 + number) for number in range(count)]


def starts(net, count):
    """States that differ, as clients with models of their own have them."""
    first = net.state_dict()
    found = []
    for number in range(count):
        torch.manual_seed(number)
        state = {
            k: v + 0.01 * torch.randn_like(v) if v.is_floating_point() else v + number
            for k, v in first.items()
        }
        found.append({k: v.abs() if "var" in k else v for k, v in state.items()})
    return found


def one_at_a_time(net, states, samples, training, loss=cross_entropy):
    found = []
    for state, own, generator in zip(states, samples, generators(len(states)), strict=True):
        net.load_state_dict(state)
        statistics = training.run(net, own, loss, generator)
        found.append(({k: v.clone() for k, v in net.state_dict().items()}, statistics))
    return found


@pytest.mark.parametrize("net", [network(), perceptron()], ids=["batch-normalised", "perceptron"])
@pytest.mark.parametrize(
    "counts", [[48] * 5, [16, 40, 33, 3, 50], [80]], ids=["equal", "unequal", "one client"]
)
def test_values_and_statistics_are_those_of_each_alone(net, counts):
    training = LocalTraining(epochs=2, batch_size=16, learning_rate=0.02, momentum=0.5)
    samples, states = shared_out(counts), starts(net, len(counts))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found, statistics = train_together(net, states, samples, cross_entropy, training, generators(len(counts)))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.training
    expected = one_at_a_time(net, states, samples, training)
    for mine, counted, (alone, counted_alone) in zip(found, statistics, expected, strict=True):
        assert list(mine) == list(alone)
        for name, value in alone.items():
            assert mine[name].dtype == value.dtype
            assert (mine[name].double() - value.double()).abs().max() < 1e-5, name
        assert np.array_equal(counted.classes, counted_alone.classes)
        assert np.array_equal(counted.counts, counted_alone.counts)
        assert np.abs(counted.means - counted_alone.means).max() < 1e-4
    moved = max(
        (found[0][k].double() - states[0][k].double()).abs().max() for k in dict(net.named_parameters())
    )
    assert moved > 1e-3


def test_in_double_precision_nothing_differs_but_the_last_digits(monkeypatch):
    """So what differs in float32 is rounding, and where that decides on the side of a ReLU's kink."""
    monkeypatch.setattr(loop, "as_input", lambda pixels: pixels.double() / 255)
    net, counts = network(widths=[4, 8, 8]).double(), [20, 33, 16]
    samples, states = shared_out(counts), starts(net, len(counts))
    found, _ = train_together(net, states, samples, cross_entropy, TRAINING, generators(len(counts)))
    for mine, (alone, _) in zip(found, one_at_a_time(net, states, samples, TRAINING), strict=True):
        assert max(float((mine[k] - v).abs().max()) for k, v in alone.items()) < 1e-12


def test_what_is_frozen_stays():
    net = perceptron()
    net.encoder.hidden.weight.requires_grad_(False)
    states = starts(net, 3)
    found, _ = train_together(net, states, shared_out([20] * 3), cross_entropy, TRAINING, generators(3))
    for mine, start in zip(found, states, strict=True):
        assert torch.equal(mine["encoder.hidden.weight"], start["encoder.hidden.weight"])
        assert not torch.equal(mine["encoder.hidden.bias"], start["encoder.hidden.bias"])


def test_what_is_refused():
    net = perceptron()
    states, samples = starts(net, 2), shared_out([20, 20])
    with pytest.raises(FederationError, match="2 states, 1 clients' samples and 2 generators; each client"):
        train_together(net, states, samples[:1], cross_entropy, TRAINING, generators(2))
    with pytest.raises(FederationError, match="0 states"):
        train_together(net, [], [], cross_entropy, TRAINING, [])
    with pytest.raises(FederationError, match="client 1 has no samples"):
        train_together(
            net,
            states,
            [samples[0], Images(samples[1].pixels[:0], samples[1].labels[:0])],
            cross_entropy,
            TRAINING,
            generators(2),
        )
    broken = [states[0], {k: v * torch.nan for k, v in states[1].items()}]
    with pytest.raises(FederationError, match="the loss of client 1 is nan; lower the learning rate"):
        train_together(net, broken, samples, cross_entropy, TRAINING, generators(2))
    assert not net.training


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Dropout(0.5), "encoder.more0 draws random numbers"),
        (nn.BatchNorm1d(32, momentum=None), "encoder.more0 averages over all batches so far"),
    ],
    ids=["dropout", "cumulative normalisation"],
)
def test_networks_whose_copies_cannot_be_trained_at_once(module, reason):
    net = perceptron(module)
    assert reason in obstacle(net)
    with pytest.raises(FederationError, match=reason):
        train_together(net, starts(net, 1), shared_out([20]), cross_entropy, TRAINING, generators(1))
    assert obstacle(perceptron(nn.Dropout(0.0), nn.BatchNorm1d(32))) is None


# On the grid


def run(site, method, *, batched, rounds=2, strict=True, before=None):
    """A run and its grid, on which clients have kept something before."""
    strategy = MethodStrategy(
        site, method, Cohorts(site.clients, site.clients, 0), rounds, evaluate_every=rounds
    )
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))

    def provide(context):
        return site, method

    grid = InlineGrid(
        client_app(provide), site.clients, strict=strict, batched=train_batched(provide) if batched else None
    )
    give_back(grid, before or {})
    run_inline(app, grid)
    return strategy, grid


@pytest.fixture
def watched(monkeypatch):
    """How many clients were trained at once, and one at a time."""
    sizes, alone = [], []
    together, run_alone = vectorised.train_together, LocalTraining.run

    def counted(network, states, *others):
        sizes.append(len(states))
        return together(network, states, *others)

    def counted_alone(self, *arguments):
        alone.append(1)
        return run_alone(self, *arguments)

    monkeypatch.setattr(vectorised, "train_together", counted)
    monkeypatch.setattr(LocalTraining, "run", counted_alone)
    return sizes, alone


def values_of(strategy):
    state = strategy.state
    found = dict(state.arrays) | {name: one.means for name, one in state.statistics.items()}
    if "model" in state.arrays:
        found = values_codec(strategy.site, 0).decode(state.arrays["model"].tobytes())
    return found


@pytest.mark.parametrize("name", ["fedavg", "fedproto", "fedtgp", "local"])
def test_a_run_that_trains_at_once_comes_to_the_same(name, watched):
    site = dealt(clients=4, kind="dirichlet", alpha=1.0)
    options = {"server_epochs": 5} if name == "fedtgp" else {}
    method = methods.find(name)(training=TRAINING, **options)
    strategy, _ = run(site, method, batched=True)
    assert watched == ([4, 4], [])
    alone, _ = run(site, method, batched=False)
    assert len(watched[1]) == 8
    found, expected = values_of(strategy), values_of(alone)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert np.abs(found[key].astype(float) - value.astype(float)).max() < 1e-4, key
    assert [record.merged for record in strategy.records] == [record.merged for record in alone.records]


def test_fedsa_whose_loss_is_each_clients_own_trains_one_at_a_time(watched):
    site = dealt(clients=2)
    method = methods.find("fedsa")(training=TRAINING)
    strategy, _ = run(site, method, batched=True, rounds=1)
    alone, _ = run(site, method, batched=False, rounds=1)
    assert watched == ([], [1] * 4)
    assert strategy.state.to_bytes() == alone.state.to_bytes()


@pytest.mark.parametrize(
    ("kept", "reason", "trained"),
    [
        (b"garbage", "arrays of other names", ([3], [])),
        (1e38, "the loss is nan", ([4], [1] * 4)),
    ],
    ids=["before it trains", "while it trains"],
)
def test_a_client_that_fails_is_named_and_the_others_are_trained(kept, reason, trained, watched):
    site = dealt(clients=4)
    method = methods.find("local")(training=TRAINING)
    codec = values_codec(site, 0)
    if isinstance(kept, float):
        first = parameters_of(site.network(0))
        kept = codec.encode(
            {k: v + np.asarray(kept if v.dtype.kind == "f" else 0, v.dtype) for k, v in first.items()}
        )
    before = {1: {"model": kept}}
    strategy, grid = run(site, method, batched=True, rounds=1, strict=False, before=before)
    (record,) = strategy.records
    assert record.merged == (0, 2, 3)
    assert {one.partition for one in record.rejected} == {1}
    assert reason in record.rejected[0].reason
    assert watched == trained
    expected, alone = run(site, method, batched=False, rounds=1, strict=False, before=before)
    assert expected.records[0].rejected == record.rejected
    for partition in (0, 2, 3):
        found, other = (codec.decode(kept_by(one)[partition]["model"]) for one in (grid, alone))
        assert all(np.abs(found[k].astype(float) - v.astype(float)).max() < 1e-5 for k, v in other.items())


@dataclass(frozen=True)
class Faulty(Local):
    """A method whose client 1 fails as only a mistake in its code would let it, behind what it keeps."""

    where: str = "begin"

    def begin(self, site, client, packet):
        if (client.partition, self.where) == (1, "begin"):
            raise TypeError("a mistake")
        return super().begin(site, client, packet)

    def finish(self, site, client, task, statistics):
        packet = super().finish(site, client, task, statistics)
        if (client.partition, self.where) == (1, "finish"):
            raise ArithmeticError("a mistake")
        return packet


@pytest.mark.parametrize("where", ["begin", "finish"])
def test_whatever_a_client_fails_with_the_others_go_on(where, watched):
    site = dealt(clients=4)
    method = Faulty(training=TRAINING, where=where)
    strategy, grid = run(site, method, batched=True, rounds=1, strict=False)
    alone, other = run(site, method, batched=False, rounds=1, strict=False)
    assert strategy.records[0].merged == alone.records[0].merged == (0, 2, 3)
    assert strategy.records[0].rejected == alone.records[0].rejected
    assert "a mistake" in strategy.records[0].rejected[0].reason
    found, expected = kept_by(grid), kept_by(other)
    assert found.keys() == expected.keys()
    codec = values_codec(site, 0)
    for partition, kept in expected.items():  # client 1's own training is not done twice over
        one, two = codec.decode(found[partition]["model"]), codec.decode(kept["model"])
        assert all(np.abs(one[k].astype(float) - v.astype(float)).max() < 1e-5 for k, v in two.items())


def test_clients_of_other_options_are_not_trained_as_one(watched):
    site = dealt(clients=4)
    slow, fast = (Local(training=LocalTraining(batch_size=20, learning_rate=rate)) for rate in (0.01, 0.1))

    def provide(context):
        return site, fast if context.node_config["partition-id"] % 2 else slow

    rounds = []
    for batched in (train_batched(provide), None):
        grid = InlineGrid(client_app(provide), 4, strict=True, batched=batched)
        strategy = MethodStrategy(site, slow, Cohorts(4, 4, 0), 1)
        app = ServerApp()
        app.main()(lambda grid, context, strategy=strategy: strategy.run(grid))
        run_inline(app, grid)
        rounds.append(kept_by(grid))
    assert watched[0] == [2, 2]
    codec = values_codec(site, 0)
    for partition, kept in rounds[1].items():
        one, two = codec.decode(rounds[0][partition]["model"]), codec.decode(kept["model"])
        assert all(np.abs(one[k].astype(float) - v.astype(float)).max() < 1e-5 for k, v in two.items())
