"""Clients as Ray actors: the same result as in one process."""

import importlib.util

import pytest

from fedsim.errors import FederationError
from fedsim.federated.engines import inline
from fedsim.federated.engines import ray as engine

from .runs import assert_same, growing, nothing_left, personal

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'fedsim[ray]'")


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_the_error_says_what_to_install(tmp_path):
    with pytest.raises(FederationError, match=r"pip install 'fedsim\[ray\]'"):
        engine.run(growing(), tmp_path)


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("spec", [growing(), personal(clients=3, cohort=2)], ids=["growing", "personal"])
def test_the_same_as_in_one_process(tmp_path, spec):
    with nothing_left():
        outcome = engine.run(spec, tmp_path / "run")
    assert_same(inline.run(spec), outcome)


@needs_ray
@pytest.mark.slow
def test_a_server_that_fails_fails_the_run_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with nothing_left(), pytest.raises(FederationError, match="cifar10"):
        engine.run(growing(data="cifar10"), tmp_path / "run")


@needs_ray
@pytest.mark.slow
def test_clients_that_all_fail_fail_the_run(tmp_path):
    spec = personal(rounds=1, options={"training": {"learning_rate": 1e20, "batch_size": 8}})
    with nothing_left(), pytest.raises(FederationError, match=r"no reply of any client was of use.*the loss"):
        engine.run(spec, tmp_path / "run")
