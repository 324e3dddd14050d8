"""Embeddings of base classes, on digits."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from edge.prototypes import ClassStatistics, Prototypes
from fedsim.errors import FederationError, TrainingError
from fedsim.federated import pretraining
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.pretraining import EpisodicPretraining, Pretraining
from fedsim.federated.site import NetworkPlan, Site, features_of, parameters_of
from fedsim.progress import Display, Task

from .conftest import growing

QUICK = EpisodicPretraining(
    episodes=40, ways=5, shots=5, queries=5, learning_rate=3e-3, held_out=0, validate_every=10
)
CHOSEN = replace(QUICK, ways=12, rotations=True, held_out=0.4)
KINDS = [
    Pretraining(epochs=1),
    replace(QUICK, episodes=12),
    replace(CHOSEN, episodes=12, validate_every=3),
]


@pytest.fixture(scope="module")
def site():
    return growing()


@pytest.fixture
def shown(monkeypatch):
    """The figures that a training shows, one entry a step."""
    figures = []
    advance = Task.advance

    def seen(task, values):
        figures.append(dict(values))
        advance(task, values)

    monkeypatch.setattr(Task, "advance", seen)
    return figures


def told(site, network, classes):
    """Share of test images of some classes that are told by the means of all their training images."""
    digits = site.dataset
    train, test = np.isin(digits.y_train, classes), np.isin(digits.y_test, classes)
    features = features_of(network, torch.from_numpy(digits.x_train[train])).numpy()
    prototypes = Prototypes.of(ClassStatistics.of(features, digits.y_train[train]))
    found = prototypes.nearest(features_of(network, torch.from_numpy(digits.x_test[test])).numpy())
    return float((found == digits.y_test[test]).mean())


def test_episodes_make_an_embedding_also_for_classes_that_nobody_had(site):
    base, field = np.arange(5), np.arange(5, 10)
    untrained = [told(site, pretraining._untrained(site), some) for some in (base, field)]
    network = QUICK.trained(site)
    assert not network.training
    assert told(site, network, base) > untrained[0] + 0.05
    turned = replace(QUICK, ways=20, rotations=True).trained(site)
    assert told(site, turned, field) > untrained[1] + 0.05


@pytest.mark.parametrize("method", KINDS, ids=["classifier", "episodic", "held-out"])
def test_the_same_seed_gives_the_same_whatever_was_trained_in_between(method, site):
    values = [{k: v.copy() for k, v in parameters_of(method.trained(site)).items()} for _ in range(2)]
    for name, value in values[0].items():
        assert np.array_equal(value, values[1][name]), name
    other = parameters_of(method.trained(replace_site(site, seed=1)))
    convolutions = [name for name in other if "conv" in name]
    assert len(convolutions) == 6
    assert not any(np.array_equal(values[0][name], other[name]) for name in convolutions)


def replace_site(site, **changes):
    values = {one.name: getattr(site, one.name) for one in fields(Site) if one.init and one.name[0] != "_"}
    return Site(**{**values, **changes})


@pytest.mark.parametrize("method", KINDS, ids=["classifier", "episodic", "held-out"])
def test_nothing_but_base_samples_has_a_say(method, site):
    """With noise in the place of all others, of the test set too, the weights are the same."""
    digits, generator = site.dataset, np.random.default_rng(0)
    x_train = generator.integers(0, 256, digits.x_train.shape, dtype=np.uint8)
    x_train[site.base] = digits.x_train[site.base]
    x_test = generator.integers(0, 256, digits.x_test.shape, dtype=np.uint8)
    noisy = replace_site(site, dataset=replace(digits, x_train=x_train, x_test=x_test))
    found, expected = (parameters_of(method.trained(one)) for one in (noisy, site))
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


def test_the_best_weights_by_held_out_base_classes_stay(site, shown):
    method = replace(CHOSEN, episodes=24, learning_rate=0.03, validate_every=2)  # too high a rate
    network = method.trained(site)
    assert len(shown) == method.episodes
    looks = [figures["held-out"] for figures in shown[1::2]]
    assert max(looks) > looks[-1]
    training, examination = method._prepared(site)
    assert examination.shape[:2] == (8, 10)  # two of the five classes, in four turns
    assert training.ways == 12
    assert method._examined(network, examination) == max(looks)


def test_a_training_that_gets_no_better_ends(site, shown):
    method = replace(CHOSEN, episodes=200, learning_rate=1e-9, validate_every=2, patience=3)
    method.trained(site)
    looks = [figures["held-out"] for figures in shown[1::2]]
    assert len(shown) < 200
    assert len(shown) == 2 * (int(np.argmax(looks)) + 1 + 3)


def test_the_display_is_told(site, capsys):
    from rich.console import Console

    shown = Display(Console(force_terminal=False), every_s=0)
    replace(QUICK, episodes=2).trained(replace(site, display=shown))
    out = capsys.readouterr().out
    assert "training the embedding 2/2" in out
    assert "loss" in out
    assert "right" in out


def test_only_the_embedding_is_trained(site):
    head = parameters_of(pretraining._untrained(site).head)["weight"].copy()
    network = QUICK.trained(site)
    assert np.array_equal(parameters_of(network.head)["weight"], head)


def test_a_prototype_space_with_an_adapter_is_trained_too(site):
    plan = NetworkPlan("digits-cnn", {"widths": [4, 8, 8]}, dimension=6)
    adapted = replace_site(site, networks=[plan])
    before = parameters_of(pretraining._untrained(adapted).adapter)["weight"].copy()
    after = parameters_of(QUICK.trained(adapted).adapter)["weight"]
    assert after.shape == (6, 32)
    assert not np.array_equal(before, after)


def test_reconnaissance_takes_either(site):
    for method in (Pretraining(epochs=1), QUICK):
        state = Reconnaissance(pretraining=method).start(site)
        assert state.statistics["statistics"].known.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ways": 6}, "ways is 6, and there are 5 base classes to train on$"),
        ({"ways": 21, "rotations": True}, "there are 20 base classes to train on, with their rotations"),
        ({"held_out": 0.1}, "held_out is 0.1, which is 0 of 5 base classes; 2 are needed to choose by"),
        ({"held_out": 0.2, "ways": 4}, "held_out is 0.2, which is 1 of 5 base classes; 2 are needed"),
        ({"held_out": 0.4}, "ways is 5, and there are 3 base classes"),
        ({"shots": 500}, "base class 0 has .* samples, shots and queries need 505"),
    ],
)
def test_episodes_that_the_base_classes_do_not_do_for(changes, said, site):
    with pytest.raises(FederationError, match=said):
        replace(QUICK, **changes).trained(site)


def test_a_server_without_samples_and_a_loss_that_is_not_finite(site):
    empty = replace_site(site, base=np.zeros(0, np.int64))
    for method in KINDS:
        with pytest.raises(FederationError, match="no base samples"):
            method.trained(empty)
    with pytest.raises(TrainingError, match=r"the loss is nan in episode \d+; lower the learning"):
        replace(QUICK, learning_rate=1e30).trained(site)


def test_as_a_scenario_names_it():
    assert pretraining.from_options({}) == Pretraining()
    assert pretraining.from_options({"kind": "classifier", "epochs": 3}) == Pretraining(3)
    named = pretraining.from_options({"kind": "episodic", "ways": 20, "rotations": True, "patience": 5})
    assert named == EpisodicPretraining(ways=20, rotations=True, patience=5)
    assert list(pretraining.available()) == ["classifier", "episodic"]
    assert all(len(title) > 20 for title in pretraining.available().values())
    assert pretraining.options_of("classifier") == ("epochs", "batch_size", "learning_rate")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "episode"}, "unknown pretraining 'episode'; known are classifier, episodic"),
        ({"kind": ["episodic"]}, r"unknown pretraining \['episodic'\]; known are"),
        ({"kind": "episodic", "epochs": 3}, "'episodic' has no option 'epochs'; it has episodes, ways"),
        ({"ways": 3}, "'classifier' has no option 'ways'; it has epochs"),
        ({"epochs": 0}, "epochs is 0, allowed is a whole number, 1 or more"),
        ({"batch_size": "8"}, "batch_size is '8', allowed is a whole number"),
        ({"learning_rate": 0}, "learning_rate is 0, allowed is a number, more than 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"kind": "episodic", "ways": 1}, "ways is 1, allowed is a whole number, 2 or more"),
        ({"kind": "episodic", "episodes": True}, "episodes is True"),
        ({"kind": "episodic", "shots": 2.5}, "shots is 2.5"),
        ({"kind": "episodic", "patience": 0}, "patience is 0"),
        ({"kind": "episodic", "rotations": 1}, "rotations is 1, allowed are true and false"),
        ({"kind": "episodic", "held_out": 1}, "held_out is 1, allowed is a number, 0 and more, less than 1"),
        ({"kind": "episodic", "learning_rate": -1.0}, "learning_rate is -1.0"),
    ],
)
def test_what_a_scenario_cannot_name(options, said):
    with pytest.raises(FederationError, match=said):
        pretraining.from_options(options)
