"""Methods that train, on digits; each a few rounds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flwr.serverapp import ServerApp
from torch import nn

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError
from fedsim.federated import method as methods
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.local import LocalTraining, cross_entropy
from fedsim.federated.method import Client, State
from fedsim.federated.methods.fedproto import pulled_to
from fedsim.federated.methods.fedtgp import FedTGP
from fedsim.federated.networks import PrototypeNetwork
from fedsim.federated.site import NetworkPlan, Site, features_of
from fedsim.federated.strategy import MethodStrategy
from fedsim.training.loop import Images

from .conftest import dealt

TRAINING = LocalTraining(epochs=2, batch_size=16, learning_rate=0.05, momentum=0.5)
TRAINED = ("fedavg", "fedproto", "fedsa", "fedtgp", "local")


def made(name, **options):
    return methods.find(name)(training=TRAINING, **options)


def run(site, method, rounds=4, **options):
    cohorts = Cohorts(site.clients, site.clients, site.seed)
    strategy = MethodStrategy(site, method, cohorts, rounds, **{"evaluate_every": rounds, **options})
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    grid = InlineGrid(client_app(lambda context: (site, method)), site.clients, strict=True)
    run_inline(app, grid)
    return strategy


def accuracy(strategy, predictor, classes, test):
    found = [
        one
        for results in strategy.records[-1].results.values()
        for one in results
        if (one.predictor, one.classes, one.test) == (predictor, classes, test)
    ]
    return sum(one.right for one in found) / sum(one.total for one in found)


@pytest.fixture(scope="module")
def site():
    return dealt(clients=3)


@pytest.mark.parametrize("name", TRAINED)
def test_it_learns(name, site):
    strategy = run(site, made(name))
    assert accuracy(strategy, "head", "all", "global") > 0.6
    predictors = {one.predictor for one in strategy.records[-1].results[0]}
    if name in {"fedavg", "local"}:
        assert predictors == {"head"}
    else:
        assert predictors == {"head", "prototypes"}
        assert accuracy(strategy, "prototypes", "all", "global") > 0.5


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_gives_the_same(name, site):
    one, other = (run(site, made(name), rounds=1) for _ in range(2))
    assert other.records == one.records
    assert other.state.to_bytes() == one.state.to_bytes()


def test_what_a_result_is_about(site):
    """A client of two classes is better among its own than among all, and better at home than abroad."""
    own = dealt(clients=5, kind="pathological", classes=2)
    strategy = run(own, made("local"), rounds=2)
    among_own, among_all = (accuracy(strategy, "head", scope, "personal") for scope in ("own", "all"))
    assert among_own >= among_all > 0.7
    assert accuracy(strategy, "head", "all", "global") < 0.35
    totals = {(r.classes, r.test): r.total for r in strategy.records[-1].results[0]}
    assert totals["all", "global"] == 599
    assert totals["own", "global"] < 200
    assert totals["own", "personal"] == totals["all", "personal"]


def test_federated_averaging_is_weighted_by_samples(site):
    method = made("fedavg")
    state = method.start(site)
    from fedsim.federated.personal import values_codec

    codec = values_codec(site, 0)
    first = codec.decode(state.arrays["model"].tobytes())
    one, two = (
        {k: v + add if v.dtype.kind == "f" else v + int(add) for k, v in first.items()} for add in (1.0, 5.0)
    )
    merged = method.merge(site, state, [(0, (30, one)), (1, (10, two))])
    found = codec.decode(merged.arrays["model"].tobytes())
    for name, value in first.items():
        expected = value + (2.0 if value.dtype.kind == "f" else 5)
        assert np.allclose(found[name], expected, atol=1e-5), name


def test_weighting_by_samples_and_by_clients(site):
    updates = [
        (0, ClassStatistics.of(np.zeros((1, site.dimension)), [3])),
        (1, ClassStatistics.of(np.full((9, site.dimension), 10.0), [3] * 9)),
    ]
    for weighting, expected in (("uniform", 5.0), ("count", 9.0)):
        method = made("fedproto", weighting=weighting)
        state = method.merge(site, method.start(site), updates)
        assert state.statistics["prototypes"].means[0, 0] == expected
    later = method.merge(site, state, [(0, ClassStatistics.of(np.ones((2, site.dimension)), [4, 4]))])
    assert later.statistics["prototypes"].known.tolist() == [3, 4]


def test_anchors_move_by_the_decay_and_only_where_something_was_seen(site):
    method = made("fedsa", decay=0.9)
    state = method.start(site)
    before = state.arrays["anchors"]
    assert before.shape == (10, site.dimension)
    assert (before >= 0).all()
    assert (before > 0).mean() > 0.3
    merged = method.merge(site, state, [(0, ClassStatistics.of(np.ones((2, site.dimension)), [2, 2]))])
    after = merged.arrays["anchors"]
    assert np.allclose(after[2], 0.9 * before[2] + 0.1, atol=1e-6)
    assert np.array_equal(np.delete(after, 2, 0), np.delete(before, 2, 0))


def test_the_loss_of_fedsa_term_by_term(site):
    client = Client(0, 1, site.shares[0].rounds[0][:8], {})
    images = site.images[torch.from_numpy(client.indices)].float() / 255
    labels = site.labels[torch.from_numpy(client.indices)]
    values = {}
    for term in ("pull", "margin", "calibration", None):
        weights = dict.fromkeys(("pull", "margin", "calibration"), 0.0)
        method = made("fedsa", **{**weights, **({term: 2.0} if term else {})})
        state = method.start(site)
        network = site.network(0).eval()
        features = network.features(images)
        loss = method.loss(site, client, method.down(site, state), network)
        values[term] = float(loss(features, network.head(features), labels).detach())
    anchors = torch.tensor(state.arrays["anchors"])
    apart = torch.cdist(anchors, anchors) + torch.diag(torch.full((10,), torch.inf))
    gap = apart.min(1).values.mean()
    plain = F.cross_entropy(network.head(features), labels)
    distance = torch.cdist(features, anchors)
    distance[torch.arange(8), labels] += gap
    expected = {
        None: 0.0,
        "pull": 2 * ((features - anchors[labels]) ** 2).mean(),
        "calibration": 2 * F.cross_entropy(network.head(anchors), torch.arange(10)),
        "margin": 2 * F.cross_entropy(-distance, labels),
    }
    for term, extra in expected.items():
        assert values[term] == pytest.approx(float((plain + extra).detach()), rel=1e-4), term


def test_the_pull_is_the_mean_over_all_samples_of_a_batch():
    """One without a prototype has nothing to be pulled to, and takes nothing from what the others get."""
    known = ClassStatistics.of(np.full((1, 4), 2.0), [1])
    features = torch.zeros(4, 4, requires_grad=True)
    found = pulled_to(known, 3)(features, torch.tensor([1, 1, 0, 2]))
    assert float(found.detach()) == pytest.approx((4 + 4 + 0 + 0) / 4)
    found.backward()
    assert (features.grad[:2] < 0).all()
    assert (features.grad[2:] == 0).all()


def test_fedtgp_says_its_prototypes_behind_the_training(site):
    """As its public code: in evaluation mode, of the network that predicts."""
    method = made("fedtgp", bits=64)
    client = Client(0, 1, site.shares[0].rounds[0], {})
    packet = method.step(site, client, method.down(site, method.start(site)))
    network = method.network(site, client)
    features = features_of(network, site.images[torch.from_numpy(client.indices)]).numpy()
    expected = ClassStatistics.of(features, site.dataset.y_train[client.indices])
    assert np.allclose(method.receive(site, packet).sums, expected.sums)


def test_the_gap_of_fedtgp_is_that_of_the_mean_that_is_asked_for(site, monkeypatch):
    margins = []
    monkeypatch.setattr(
        FedTGP, "_train", lambda self, t, points, owners, margin, seed: margins.append(margin)
    )
    ones = np.ones((1, site.dimension))
    updates = [
        (0, ClassStatistics.of(np.concatenate([0 * ones, 4 * ones]), [0, 1])),
        (1, ClassStatistics.of(np.repeat(8 * ones, 3, 0), [1, 1, 1])),
    ]
    for weighting in ("uniform", "count"):
        method = made("fedtgp", weighting=weighting, threshold=1000.0)
        method.merge(site, method.start(site), updates)
    length = site.dimension**0.5
    assert margins == pytest.approx([6 * length, 7 * length])


def test_trained_prototypes_lie_nearer_to_their_own_than_to_others(site):
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 1, (10, site.dimension))
    updates = [
        (client, ClassStatistics.of(centres + generator.normal(0, 0.3, centres.shape), np.arange(10)))
        for client in range(4)
    ]
    method = made("fedtgp", server_learning_rate=0.1)
    state = method.merge(site, method.start(site), updates)
    trained = torch.tensor(state.statistics["prototypes"].means)
    apart = torch.cdist(torch.tensor(centres), trained)
    assert (apart.argmin(1) == torch.arange(10)).all()


def test_clients_of_different_backbones_share_one_prototype_space():
    site = dealt(clients=2)
    plans = [
        NetworkPlan("digits-cnn", {"widths": [4, 4, 8]}, dimension=12),
        NetworkPlan("digits-cnn", {"widths": [4, 8, 16]}, dimension=12),
    ]
    shares = [type(share)(share.rounds, share.test, number) for number, share in enumerate(site.shares)]
    mixed = Site(site.dataset, shares, plans)
    strategy = run(mixed, made("fedproto"), rounds=3)
    assert accuracy(strategy, "prototypes", "all", "global") > 0.4
    with pytest.raises(FederationError, match="fedavg needs one network"):
        made("fedavg").start(mixed)
    with pytest.raises(FederationError, match="different prototype dimensions"):
        Site(site.dataset, shares, [plans[0], NetworkPlan("digits-cnn", dimension=13)])


SPLIT = [
    NetworkPlan(
        "digits-cnn",
        {"widths": [4, 8, 8]},
        12,
        cut="stage2",
        bottleneck={"name": "factorized", "channels": 4, "beta": 1e-4},
    ),
    NetworkPlan("digits-cnn", {"widths": [8, 8, 16]}, 12, cut="stage1", bottleneck={"name": "float16"}),
    NetworkPlan("digits-cnn", {"widths": [4, 8, 16]}, 12),
]


def of_different_bottlenecks():
    few = dealt(clients=3)
    shares = [type(share)(share.rounds, share.test, number) for number, share in enumerate(few.shares)]
    return Site(few.dataset, shares, SPLIT)


@pytest.mark.parametrize("name", ["fedproto", "fedsa", "fedtgp", "local"])
def test_clients_of_different_bottlenecks_share_one_prototype_space(name):
    strategy = run(of_different_bottlenecks(), made(name), rounds=2)
    assert accuracy(strategy, "head", "all", "global") > 0.25
    assert {len(results) > 0 for results in strategy.records[-1].results.values()} == {True}


def test_the_noise_of_a_bottleneck_is_the_clients_own():
    strategy = run(of_different_bottlenecks(), made("fedproto"), rounds=1)
    torch.manual_seed(99)
    again = run(of_different_bottlenecks(), made("fedproto"), rounds=1)
    assert again.records == strategy.records
    assert again.state.to_bytes() == strategy.state.to_bytes()


def test_what_layers_draw_comes_of_the_clients_seed():
    """Dropout would otherwise be another one on every engine, and behind every checkpoint."""

    class Dropping(PrototypeNetwork):
        def __init__(self):
            encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5))
            super().__init__(encoder, 8, 10)

    digits = dealt(clients=2).dataset
    samples = Images(torch.from_numpy(digits.x_train[:32]), torch.from_numpy(digits.y_train[:32]))
    sums = []
    for state in (1, 2):
        torch.manual_seed(0)
        network = Dropping()
        torch.manual_seed(state)
        drawn = torch.Generator().manual_seed(5)
        sums.append(TRAINING.run(network, samples, cross_entropy, drawn).sums)
    assert np.array_equal(*sums)


@pytest.mark.parametrize("name", TRAINED)
def test_a_state_comes_back_exactly(name, site):
    state = made(name).start(site)
    found = State.from_bytes(state.to_bytes())
    assert found.to_bytes() == state.to_bytes()
    assert set(found.arrays) == set(state.arrays)
    for key, value in state.arrays.items():
        assert np.array_equal(found.arrays[key], value)
        assert found.arrays[key].dtype == value.dtype


def test_every_method_says_what_it_is():
    known = methods.available()
    assert set(TRAINED) | {"reconnaissance", "fedavg-bottleneck"} == set(known)
    assert all(len(title) > 20 for title in known.values())
    with pytest.raises(FederationError, match="unknown federated method 'fedprot'; known are fedavg"):
        methods.find("fedprot")


def test_a_loss_that_is_not_finite_is_told(site):
    method = methods.find("fedavg")(training=LocalTraining(learning_rate=1e30, epochs=3))
    with pytest.raises(FederationError, match="client 0 failed in 'train': FederationError: the loss is nan"):
        run(site, method, rounds=1)
