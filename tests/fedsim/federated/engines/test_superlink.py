"""A SuperLink of one run: the app that it is given, and what it says of a server that fails."""

import dataclasses
import socket
import tomllib

import pytest

from fedsim.errors import FederationError
from fedsim.federated import flower
from fedsim.federated.engines import deployment
from fedsim.federated.engines.superlink import Federation, app_of, free_ports
from fedsim.federated.runspec import RunSpec

from .runs import growing, nothing_left


def test_a_run_is_a_flower_app(tmp_path):
    spec = dataclasses.replace(growing(), results='a "folder"\\ of\n\x7f Zoë 🌼')
    folder = app_of(spec, tmp_path / "app")
    app = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert RunSpec.from_json(app["config"][flower.RUN]) == spec
    assert app["components"] == {
        "serverapp": "fedsim.federated.flower:server_app",
        "clientapp": "fedsim.federated.flower:client_app",
    }


def test_free_ports_are_free_and_different():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.create_server(("127.0.0.1", ports[0])):
        pass


@pytest.mark.slow
def test_a_server_that_fails_fails_the_run_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))  # where there is nothing
    with nothing_left(), pytest.raises(FederationError, match=r"cifar10.*") as caught:
        deployment.run(growing(clients=1, data="cifar10"), tmp_path / "run")
    assert "the ServerApp failed" not in str(caught.value)  # it is one of fedsim's own errors
    logs = {log.name for log in (tmp_path / "run/logs").iterdir()}
    assert logs == {"superlink.log", "supernode-0.log"}


def test_a_superlink_that_cannot_start_says_why(tmp_path):
    with (
        nothing_left(),
        pytest.raises(FederationError, match="superlink ended with exit code 2") as caught,
        Federation.started(tmp_path, ["--no-such-option"]),
    ):
        pytest.fail("it does not start")
    assert "--no-such-option" in str(caught.value)


def test_without_flowers_programs_there_is_nothing_to_start(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(FederationError, match="flower-superlink is not installed"),
        Federation.started(tmp_path),
    ):
        pytest.fail("it does not start")
