"""Clipping, Gaussian noise, and what is reported of them."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from edge.prototypes import ClassStatistics
from fedsim.errors import FederationError
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.method import Client
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.privacy import GaussianPrivacy, clipped, epsilon, privacy_loss
from fedsim.federated.rounds import RoundRecord
from fedsim.federated.site import Share, Site

from .hostile import run, small

CLASSES, DIMENSION = 20, 50


def client(partition=0, number=1):
    return Client(partition, number, np.zeros(0, np.int64), {})


def drawn(count=30, classes=CLASSES, seed=0, size=1.0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, size, (count, DIMENSION)), generator.integers(0, classes, count)


# Clipping


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_clipping_is_exact(seed, clip, size):
    features, _ = drawn(seed=seed, size=size)
    features[0] = 0
    found = clipped(features, clip)
    norms = np.linalg.norm(features, axis=1)
    short = norms <= clip
    assert np.array_equal(found[short], features[short])
    assert np.allclose(np.linalg.norm(found[~short], axis=1), clip, rtol=1e-12)
    assert np.allclose(found * norms[:, None], features * np.linalg.norm(found, axis=1)[:, None])


def test_without_noise_and_within_the_clip_nothing_changes():
    features, labels = drawn()
    exact = ClassStatistics.of(features, labels)
    for options in ({}, {"level": "client", "contribution": 1e3}):
        found = GaussianPrivacy(clip=1e3, noise=0.0, **options).statistics(
            features, labels, CLASSES, client()
        )
        assert np.array_equal(found.classes, exact.classes)
        assert np.array_equal(found.counts, exact.counts)
        assert np.array_equal(found.sums, exact.sums)


def test_what_a_client_contributes_is_scaled_down_as_a_whole():
    features, labels = drawn(count=500)
    privacy = GaussianPrivacy(clip=2.0, noise=0.0, level="client", contribution=7.0)
    rows = privacy.rows(features, labels, CLASSES, client())
    weighed = rows * np.array([2.0] + [1.0] * DIMENSION)
    assert np.linalg.norm(weighed) == pytest.approx(privacy.sensitivity)
    assert privacy.sensitivity == pytest.approx(7 * math.sqrt(2) * 2)
    whole = GaussianPrivacy(clip=2.0, noise=0.0).rows(features, labels, CLASSES, client())
    assert np.allclose(rows / rows[0, 0], whole / whole[0, 0])


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_one_sample_moves_what_is_released_by_no_more_than_the_sensitivity(seed, clip):
    features, labels = drawn(seed=seed, size=3.0)
    privacy = GaussianPrivacy(clip=clip, noise=0.0)
    unit = np.array([clip] + [1.0] * DIMENSION)
    whole, less = (privacy.rows(features[n:], labels[n:], CLASSES, client()) * unit for n in (0, 1))
    assert np.linalg.norm(whole - less) <= privacy.sensitivity * (1 + 1e-9)


# Noise


@pytest.mark.parametrize(
    "privacy",
    [
        GaussianPrivacy(clip=3.0, noise=1.5, seed=1),
        GaussianPrivacy(clip=0.5, noise=4.0, level="client", contribution=20.0, seed=2),
        GaussianPrivacy(clip=3.0, noise=1.5),
    ],
    ids=["sample", "client", "unseeded"],
)
def test_the_noise_has_the_promised_deviation_for_all_classes(privacy):
    features, labels = drawn(classes=3)
    quiet = GaussianPrivacy(privacy.clip, 0.0, privacy.level, privacy.contribution)
    exact = quiet.rows(features, labels, CLASSES, client())
    noise = np.array(
        [privacy.rows(features, labels, CLASSES, client(number=n)) - exact for n in range(1, 101)]
    )
    unit = privacy.noise * math.sqrt(2) * privacy.contribution
    assert np.std(noise[..., 1:]) == pytest.approx(unit * privacy.clip, rel=0.02)
    assert np.std(noise[..., 0]) == pytest.approx(unit, rel=0.06)
    assert np.std(noise[:, 3:, 1:]) == pytest.approx(unit * privacy.clip, rel=0.02)  # nobody has those
    assert abs(noise.mean()) < 5 * noise.std() / math.sqrt(noise.size)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1


def test_of_those_who_share_the_noise_each_adds_less():
    features, labels = drawn()
    privacy = GaussianPrivacy(clip=1.0, noise=2.0, seed=0)
    exact = GaussianPrivacy(clip=1.0, noise=0.0).rows(features, labels, CLASSES, client())
    found = [privacy.rows(features, labels, CLASSES, client(p), sharers=9) - exact for p in range(9)]
    assert np.std(found[0][:, 1:]) == pytest.approx(2 * math.sqrt(2) / 3, rel=0.06)
    assert np.std(np.sum(found, axis=0)[:, 1:]) == pytest.approx(2 * math.sqrt(2), rel=0.06)


def test_noise_that_can_be_repeated_and_such_that_cannot():
    features, labels = drawn()
    seeded, free = GaussianPrivacy(1.0, 1.0, seed=7), GaussianPrivacy(1.0, 1.0)

    def rows(privacy, *who):
        return privacy.rows(features, labels, CLASSES, client(*who))

    assert np.array_equal(rows(seeded, 1, 2), rows(seeded, 1, 2))
    assert not np.array_equal(rows(seeded, 1, 2), rows(seeded, 1, 3))
    assert not np.array_equal(rows(seeded, 1, 2), rows(seeded, 2, 2))
    assert not np.array_equal(rows(free, 1, 2), rows(free, 1, 2))


def test_classes_of_less_than_one_sample_are_left_out():
    rows = np.array([[0.49, 1.0], [-3.0, 1.0], [0.51, 2.0], [7.4, 3.0]])
    found = GaussianPrivacy.statistics_of(rows)
    assert found.classes.tolist() == [2, 3]
    assert found.counts.tolist() == [1, 7]
    assert found.sums.tolist() == [[2.0], [3.0]]
    assert len(GaussianPrivacy.statistics_of(np.zeros((3, 4)))) == 0


# Epsilon


def renyi(noise, delta):
    """The least of ``a / 2z^2 + log((a - 1) / a) - (log delta + log a) / (a - 1)`` over all orders a.

    Canonne, Kamath, Steinke: "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, proposition 12.
    """
    orders = 1 + np.geomspace(1e-3, 1e4, 200_000)
    bounds = orders / (2 * noise**2) + np.log1p(-1 / orders)
    return float((bounds - (np.log(delta) + np.log(orders)) / (orders - 1)).min())


def exact(noise, delta):
    """Balle, Wang: "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, theorem 8."""

    def surplus(e):
        first, second = 1 / (2 * noise) - e * noise, -1 / (2 * noise) - e * noise
        return norm.cdf(first) - math.exp(e) * norm.cdf(second) - delta

    return brentq(surplus, 0, 200)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("noise", [0.7, 1.0, 2.0, 5.0])
def test_epsilon_of_one_release_is_that_of_the_closed_form(noise, delta):
    found = epsilon(noise, 1, delta)
    assert found == pytest.approx(renyi(noise, delta), rel=0.01)
    assert exact(noise, delta) <= found <= 1.25 * exact(noise, delta)


def test_epsilon_of_many_releases():
    """So many releases are as one with less noise, by their square root."""
    assert epsilon(10.0, 25, 1e-5) == pytest.approx(epsilon(2.0, 1, 1e-5), rel=0.01)
    found = [epsilon(2.0, releases, 1e-5) for releases in (0, 1, 2, 10, 100)]
    assert found == sorted(found)
    assert found[0] == 0
    assert epsilon(0.0, 1, 1e-5) == math.inf
    assert epsilon(0.0, 0, 1e-5) == 0


def test_what_a_run_has_given_away():
    """A sample counts in the rounds in which it was used, and a client in those in which it was asked."""
    plain = small(3)
    missions = (np.array([0, 1]), np.array([2]), np.array([1, 3]))
    shares = [Share(missions, plain.shares[0].test), *plain.shares[1:2]]
    site = Site(plain.dataset, shares, plain.networks)
    records = [
        RoundRecord(1, (0,)),
        RoundRecord(2, (0,), lost=(0,)),
        RoundRecord(3, (0,), late={0: 1.0}),
        RoundRecord(4, ()),
    ]
    loss = privacy_loss(site, GaussianPrivacy(1.0, 2.0), records, 1e-5)
    assert (loss.releases, loss.level, loss.delta) == (2, "sample", 1e-5)
    assert loss.epsilon == epsilon(2.0, 2, 1e-5)
    assert privacy_loss(site, GaussianPrivacy(1.0, 2.0, "client"), records, 1e-5).releases == 3
    assert (
        privacy_loss(site, GaussianPrivacy(1.0, 2.0), [RoundRecord(n, (1,)) for n in (1, 2)], 1e-5).releases
        == 2
    )
    assert privacy_loss(site, GaussianPrivacy(1.0, 2.0), [], 1e-5).epsilon == 0


def test_without_the_accountant_it_says_what_to_install():
    code = (
        "import sys; sys.modules['dp_accounting'] = None\n"
        "from fedsim.federated.privacy import epsilon\n"
        "from fedsim.errors import FederationError\n"
        "try: epsilon(1.0, 1, 1e-5)\n"
        "except FederationError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'fedsim[privacy]'" in found


# A run


@pytest.fixture(scope="module")
def site():
    return small()


def recon(privacy, bits=32):
    return Reconnaissance(bits, Pretraining(epochs=1), privacy)


@pytest.fixture(scope="module")
def start(site):
    return recon(None).start(site)


def test_a_run_without_noise_is_the_plain_one(site, start):
    plain = run(site, recon(None), state=start)
    private = run(site, recon(GaussianPrivacy(clip=1e4, noise=0.0)), state=start)
    assert private.state.to_bytes() == plain.state.to_bytes()
    assert private.records == plain.records


def test_a_run_with_noise_is_the_same_again_and_nobody_is_refused(site, start):
    method = recon(GaussianPrivacy(clip=2.0, noise=0.5, seed=1), bits=5)
    one, other = (run(site, method, state=start, cohorts=Cohorts(4, 3, 0)) for _ in range(2))
    assert one.state.to_bytes() == other.state.to_bytes()
    assert one.records == other.records
    assert all(record.merged == record.cohort for record in one.records)
    loss = privacy_loss(site, method.privacy, one.records, 1e-5)
    assert 1 < loss.releases <= 3
    assert loss.epsilon == pytest.approx(renyi(0.5 / math.sqrt(loss.releases), 1e-5), rel=0.02)


def test_more_noise_makes_prototypes_worse(site, start):
    def apart(noise):
        privacy = GaussianPrivacy(clip=1e4, noise=noise, seed=1)
        found = run(site, recon(privacy), state=start, rounds=1).state.statistics["statistics"]
        exact = run(site, recon(None), state=start, rounds=1).state.statistics["statistics"]
        return float(np.abs(found.means - exact.means).max())

    assert apart(0.0) < apart(1e-5) < apart(1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip": 0.0}, "clip is 0.0, allowed is a number, more than 0"),
        ({"clip": math.inf}, "clip is inf, allowed is a number, more than 0"),
        ({"noise": -1.0}, "noise is -1.0, allowed is a number, 0 and more"),
        ({"noise": math.nan}, "noise is nan, allowed"),
        ({"level": "class"}, "level is 'class', allowed are 'sample' and 'client'"),
        ({"contribution": 2.0}, "contribution is 2.0 at the level of samples, where it is 1"),
        ({"level": "client", "contribution": 0.0}, "contribution is 0.0, allowed is a number, more than 0"),
    ],
)
def test_numbers_out_of_bounds(options, said):
    with pytest.raises(FederationError, match=f"privacy: {said}"):
        GaussianPrivacy(**{"clip": 1.0, "noise": 1.0, **options})


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_out_of_bounds(delta):
    with pytest.raises(FederationError, match=r"delta is .*, allowed is more than 0, less than 1"):
        epsilon(1.0, 1, delta)
