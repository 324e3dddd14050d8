"""Federated Reconnaissance on digits, from the first mission to the last."""

import numpy as np
import pytest
import torch
from flwr.serverapp import ServerApp

from edge.prototypes import ClassStatistics
from fedsim.federated import method as methods
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.site import features_of
from fedsim.federated.strategy import MethodStrategy

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
    from fedsim.federated.predictors import nearest_prototype

    chosen = nearest_prototype(features, statistics, 10).argmax(1).numpy()
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


def test_the_method_is_known_by_its_name():
    assert methods.find("reconnaissance") is Reconnaissance
    assert methods.available()["reconnaissance"].startswith("Federated Reconnaissance")
