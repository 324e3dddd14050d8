"""Federated Reconnaissance on digits, from the first mission to the last."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.serverapp import ServerApp

from edge.prototypes import ClassStatistics, Prototypes, StatisticsCodec
from fedsim.errors import FederationError
from fedsim.federated import method as methods
from fedsim.federated.checks import Limits, check_update
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.method import Client, State
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.packet import Packet
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.privacy import GaussianPrivacy
from fedsim.federated.secure_aggregation import Masked
from fedsim.federated.site import features_of
from fedsim.federated.strategy import MethodStrategy
from fedsim.prototypes import assign
from fedsim.prototypes.classifiers import euclidean, find

METHOD = Reconnaissance(pretraining=Pretraining(epochs=6, learning_rate=3e-3))


def run(site, method=METHOD, *, cohort=None, dropout=0.0, rounds=None, **options):
    rounds = rounds or max(len(share.rounds) for share in site.shares)
    cohorts = Cohorts(site.clients, cohort or site.clients, site.seed, dropout)
    strategy = MethodStrategy(site, method, cohorts, rounds, **options)
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    grid = InlineGrid(client_app(lambda context: (site, method)), site.clients, strict=True)
    run_inline(app, grid)
    return strategy


@pytest.fixture(scope="module")
def finished(request):
    from .conftest import growing

    site = growing()
    return site, run(site, evaluate_every=1000)


def test_what_is_merged_are_all_samples_of_all_missions(finished):
    site, strategy = finished
    network = site.network(0)
    samples = [site.base, *(part for share in site.shares for part in share.rounds)]
    everything = np.concatenate(samples)
    features = features_of(network, site.images[torch.from_numpy(everything)]).numpy()
    pooled = ClassStatistics.of(features, site.dataset.y_train[everything])
    merged = strategy.state.statistics["statistics"]
    assert np.array_equal(merged.counts, pooled.counts)
    assert np.abs(merged.means - pooled.means).max() < 1e-5 * np.abs(pooled.means).max()


def test_new_classes_are_learned_and_base_classes_are_not_forgotten(finished):
    site, strategy = finished
    results = {(r.classes, r.test): r for r in strategy.records[-1].results[0]}
    assert results["all", "global"].total == len(site.dataset.y_test)
    assert results["all", "global"].accuracy > 0.65
    assert results["all", "personal"].accuracy is None
    statistics = strategy.state.statistics["statistics"]
    features = features_of(site.network(0), torch.from_numpy(site.dataset.x_test))
    chosen = euclidean(features, statistics, 10).argmax(1).numpy()
    base = site.dataset.y_test < 5
    assert (chosen == site.dataset.y_test)[base].mean() > 0.85


def test_every_round_says_who_took_part(finished):
    site, strategy = finished
    for record in strategy.records:
        with_samples = [p for p in range(3) if len(site.shares[p].samples(record.number))]
        assert list(record.cohort) == with_samples == list(record.merged)
        assert record.rejected == ()
    assert [record.number for record in strategy.records] == list(range(1, len(strategy.records) + 1))


def test_coded_prototypes_tell_as_well(finished):
    site, _ = finished
    coded = Reconnaissance(bits=6, pretraining=METHOD.pretraining)
    strategy = run(site, coded, evaluate_every=1000)
    (found,) = [r for r in strategy.records[-1].results[0] if (r.classes, r.test) == ("all", "global")]
    assert found.accuracy > 0.65


KINDS = [
    {"classifier": "cosine"},
    {"classifier": "gaussian"},
    {"slots": 4},
    {"classifier": "gaussian", "slots": 3, "bits": 8},
]


@pytest.mark.parametrize("options", KINDS)
def test_other_classifiers_tell_new_classes_too(options):
    from .conftest import growing

    site = growing()
    strategy = run(site, replace(METHOD, **options), evaluate_every=1000)
    results = {(r.classes, r.test): r for r in strategy.records[-1].results[0]}
    assert results["all", "global"].accuracy > 0.6
    assert not any(record.rejected for record in strategy.records)
    statistics = strategy.state.statistics["statistics"]
    assert (statistics.squares is not None) == (options.get("classifier") == "gaussian")
    slots = options.get("slots", 1)
    assert int(statistics.slots.max()) == slots - 1
    assert len(statistics) > len(statistics.known) or slots == 1
    assert statistics.known.tolist() == list(range(10))


def test_a_classifier_is_the_one_that_is_asked_for(finished):
    """All predict from the same statistics, and not the same."""
    site, strategy = finished
    statistics = strategy.state.statistics["statistics"]
    images = torch.from_numpy(site.dataset.x_test[:200])
    features = features_of(site.network(0), images).numpy()
    squares = ClassStatistics.of(features, site.dataset.y_test[:200], squares=True)
    for name in ("euclidean", "cosine", "gaussian"):
        method = Reconnaissance(classifier=name)
        known = squares if name == "gaussian" else statistics
        kept = {"encoder": strategy.state.arrays["encoder"].tobytes()}
        packet = method.shared(site, State(statistics={"statistics": known}))
        predict = method.predictors(site, Client(0, 1, site.base, kept), packet)["prototypes"]
        decoded = StatisticsCodec(site.dimension).decode(packet["prototypes"])
        expected = find(name)(torch.from_numpy(features), decoded, 10)
        assert torch.allclose(predict(images), expected, rtol=1e-4, atol=1e-4)


def test_slots_depend_on_the_sample_alone_and_merge_to_the_pooled_ones():
    from .conftest import growing

    site = growing()
    method = replace(METHOD, slots=3, classifier="gaussian", bits=64)
    strategy = run(site, method, evaluate_every=1000)
    everything = np.concatenate([site.base, *(part for share in site.shares for part in share.rounds)])
    features = features_of(site.network(0), site.images[torch.from_numpy(everything)]).numpy()
    vectors = strategy.state.arrays["centres"]
    assert vectors.shape == (3, site.dimension)
    none = np.zeros(3, np.int64)
    slots = assign(features, np.zeros(len(features), np.int64), Prototypes(none, vectors))
    pooled = ClassStatistics.of(features, site.dataset.y_train[everything], slots, squares=True)
    merged = strategy.state.statistics["statistics"]
    for name in ("classes", "slots", "counts"):
        assert np.array_equal(getattr(merged, name), getattr(pooled, name))
    for name in ("sums", "squares"):
        assert np.allclose(getattr(merged, name), getattr(pooled, name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"classifier": "gaussian", "slots": 3}])
def test_clients_counted_at_once_say_what_each_would_say_alone(options):
    from .conftest import growing

    site = growing(clients=4)
    method = replace(METHOD, bits=64, **options)
    state = method.start(site)
    kept = dict(method.setup(site, state).parts)
    alone = replace(site, together=False, _made={})
    for number in (1, 2):
        for partition, share in enumerate(site.shares):
            client = Client(partition, number, share.samples(number), dict(kept))
            if not len(client.indices):
                continue
            found, expected = (
                method.receive(one, method.step(one, client, Packet())) for one in (site, alone)
            )
            assert np.array_equal(found.classes, expected.classes)
            assert np.array_equal(found.slots, expected.slots)
            assert np.array_equal(found.counts, expected.counts)
            assert np.allclose(found.sums, expected.sums, rtol=1e-6, atol=1e-6)
            if expected.squares is not None:
                assert np.allclose(found.squares, expected.squares, rtol=1e-6, atol=1e-6)


def test_a_slot_that_there_is_not_is_refused(finished):
    site, _ = finished
    method = Reconnaissance(slots=2)
    for slot, said in ((1, None), (2, "slot 2 of class 7; slots are 0 to 1")):
        statistics = ClassStatistics.of(np.ones((1, site.dimension)), [7], [slot])
        packet = Packet({"statistics": StatisticsCodec(site.dimension).encode(statistics).payload})
        if said is None:
            method.receive(site, packet)
        else:
            with pytest.raises(FederationError, match=said):
                method.receive(site, packet)


def test_squares_beyond_the_limit_are_refused():
    """One client's would widen every class, and nobody could be told from anybody."""
    fine = ClassStatistics.of(np.full((2, 3), 10.0), [1, 1], squares=True)
    check_update(fine, Limits(magnitude=10.0))
    far = replace(fine, squares=fine.squares * 1.1)
    with pytest.raises(FederationError, match="a mean square is beyond that of 10, the largest allowed"):
        check_update(far, Limits(magnitude=10.0))


def test_what_is_asked_for_again_and_again_is_not_made_anew(finished):
    """Features of all samples outlive the statistics of many rounds."""
    site = replace(finished[0], _made={})
    made = []
    for number in range(30):
        assert site.kept("features", lambda: made.append(1) or 5) == 5
        assert site.kept(("round", number), lambda: None) is None
    assert len(made) == 1


@pytest.mark.parametrize("options", [{"slots": 2}, {"classifier": "gaussian"}])
def test_squares_and_slots_are_neither_masked_nor_private(options):
    with pytest.raises(FederationError, match=r"Reconnaissance cannot be masked: .*, a row a class, and it"):
        Masked(Reconnaissance(**options))
    with pytest.raises(FederationError, match="privacy is of counts and sums, a row a class"):
        Reconnaissance(privacy=GaussianPrivacy(1.0, 1.0), **options)


def test_what_there_is_not_is_told():
    with pytest.raises(FederationError, match="unknown prototype classifier 'best'; known are cosine, "):
        Reconnaissance(classifier="best")
    with pytest.raises(FederationError, match="slots is 0, allowed is 1 or more"):
        Reconnaissance(slots=0)


def test_the_method_is_known_by_its_name():
    assert methods.find("reconnaissance") is Reconnaissance
    assert methods.available()["reconnaissance"].startswith("Federated Reconnaissance")
