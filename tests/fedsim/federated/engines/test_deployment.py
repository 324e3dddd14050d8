"""SuperLink and SuperNodes as processes: the same result as in one, and what happens when one ends."""

import os
import re
import signal
import threading
from pathlib import Path

import psutil
import pytest

from fedsim.errors import FederationError
from fedsim.federated.engines import deployment, inline
from fedsim.federated.engines.outcome import ResultFolder

from .runs import assert_same, growing, nothing_left, personal

pytestmark = pytest.mark.slow  # seconds for each message

DIVERGING = {"learning_rate": 1e20, "momentum": 0.0}  # the loss is finite in the first batch, and never again


@pytest.mark.parametrize(
    ("spec", "tls"), [(growing(), True), (personal(), False)], ids=["growing, TLS", "personal, plain"]
)
def test_the_same_as_in_one_process(tmp_path, spec, tls):
    rounds: list[int] = []
    with nothing_left():
        outcome = deployment.run(spec, tmp_path / "run", tls=tls, report=rounds.append)
    assert_same(inline.run(spec), outcome)
    assert rounds[-1] == spec.rounds
    assert outcome.troubles == ()
    served = (tmp_path / "run/logs/superlink.log").read_text()
    assert ("https://127.0.0.1" if tls else "http://127.0.0.1") in served
    assert ("Starting insecure HTTP server" in served) != tls


def test_a_client_that_fails_is_named_and_the_round_goes_on(tmp_path):
    spec = personal(rounds=1, options={"training": {**DIVERGING, "batch_size": 500}})
    with nothing_left():
        outcome = deployment.run(spec, tmp_path / "run")
    (record,) = outcome.records
    sizes = [len(share.samples(1)) for share in spec.site(together=False).shares]
    (failing,) = (partition for partition, size in enumerate(sizes) if size > 500)
    assert record.merged == (1 - failing,)
    (rejection,) = record.rejected
    assert rejection.partition == failing
    assert "lower the learning rate" in rejection.reason
    assert inline.run(spec).records[0].rejected[0].partition == failing


def test_clients_that_all_fail_fail_the_run(tmp_path):
    spec = personal(rounds=1, options={"training": {**DIVERGING, "batch_size": 8}})
    with nothing_left(), pytest.raises(FederationError, match=r"no reply of any client was of use.*the loss"):
        deployment.run(spec, tmp_path / "run")


def test_a_supernode_that_dies_is_not_waited_for(tmp_path):
    spec = personal(rounds=2, clients=3, evaluate_every=2, limits={"reply_s": 45.0})

    def kill(number: int) -> None:
        if number == 1:
            node(2).kill()

    with nothing_left():
        outcome = deployment.run(spec, tmp_path / "run", report=kill)
    first, second = outcome.records
    assert first.merged == (0, 1, 2)
    assert second.merged == (0, 1)
    assert second.cohort == (0, 1, 2)
    assert [(one.partition, one.reason) for one in second.rejected][:1] == [(2, "no reply in time")]
    assert set(second.results) == {0, 1}
    assert outcome.troubles == ("the SuperNode of client 2 ended with exit code 137",)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_killed_fails_the_run(tmp_path, number):
    folder = ResultFolder(tmp_path / "run/results")
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.1):
            if (server := folder.server()) is not None:
                os.kill(server, number)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with nothing_left(), pytest.raises(FederationError, match=r"the ServerApp (was killed|failed|ended)"):
            deployment.run(growing(), tmp_path / "run")
    finally:
        over.set()
        thread.join()


def test_supernodes_that_all_die_fail_the_run(tmp_path):
    folder = ResultFolder(tmp_path / "run/results")
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.1):
            if folder.server() is not None:
                for partition in range(2):
                    node(partition).kill()
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with nothing_left(), pytest.raises(FederationError, match="all SuperNodes have ended"):
            deployment.run(growing(), tmp_path / "run")
    finally:
        over.set()
        thread.join()


def test_nothing_of_flower_is_left_in_the_folder_of_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    with pytest.raises(FederationError, match="cifar10"):
        deployment.run(growing(data="cifar10"), tmp_path / "run")
    assert not list(tmp_path.glob("fedsim-*"))
    assert not Path(tmp_path / ".flwr").exists()


def node(partition: int) -> psutil.Process:
    """The SuperNode of a client, below its keeper."""
    for child in psutil.Process().children(recursive=True):
        command = child.cmdline()
        if any(re.search(r"/flower-supernode$", word) for word in command) and any(
            word.startswith(f"partition-id={partition} ") for word in command
        ):
            return child
    raise AssertionError(f"there is no SuperNode of client {partition}")
