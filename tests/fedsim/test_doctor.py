import http.server
import json
import os
import shutil
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from fedsim.cli import app
from fedsim.doctor import PROBES, Finding, Probe, commands, containers, examine, hardware, network, software

linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
STATES = {"yes", "no", "not allowed", "unknown"}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, with sh in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep"):
        (folder / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(commands, "SYSTEM_FOLDERS", [])
    return folder


def tool(folder: Path, name: str, script: str) -> None:
    """A command that says what the real one would."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Work as somebody who is not root, whoever runs the tests."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_the_command_tells_the_same_to_people_and_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    facts = CliRunner().invoke(app, ["doctor", "--json"])
    assert facts.exit_code == 0
    findings = [Finding(**fact) for fact in json.loads(facts.stdout)]
    assert {finding.state for finding in findings} <= STATES
    assert all(finding.found for finding in findings)
    named = by_name(findings)
    assert len(named) == len(findings)
    assert {"python", "ray", "powercap", "zeus", "tbf", "netem", "ifb", "tun", "docker engine"} <= set(named)
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 0
    rows = [line.split("  ")[0] for line in shown.stdout.splitlines()]
    assert [row for row in rows if row in named] == list(named)


def test_wrong_arguments_are_the_only_failure() -> None:
    assert CliRunner().invoke(app, ["doctor", "--yaml"]).exit_code == 2


def test_nothing_is_left_behind() -> None:
    children, interfaces = psutil.Process().children(recursive=True), sorted(psutil.net_if_addrs())
    findings = [
        finding for probe in PROBES if probe.look.__module__ != software.__name__ for finding in probe.look()
    ]
    assert "tbf" in by_name(findings)
    assert psutil.Process().children(recursive=True) == children
    assert sorted(psutil.net_if_addrs()) == interfaces


def test_a_probe_that_fails_is_one_line_and_not_the_end() -> None:
    def fails() -> list[Finding]:
        raise OSError("broken\ndriver")

    release = threading.Event()

    def hangs() -> list[Finding]:
        release.wait(60)
        return []

    probes = [Probe("first", fails), Probe("second", hangs), Probe("root", network.root)]
    first, second, last = examine(probes, longest_s=0.2)
    release.set()
    assert (first.name, first.state) == ("first", "unknown")
    assert first.found == "the probe failed: OSError: broken driver"
    assert (second.state, second.found) == ("unknown", "the probe failed: no answer within 0.2 s")
    assert last.name == "root"


def test_versions_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = software.packages()
    assert found.state == "yes"
    assert f"flwr {version('flwr')}" in found.found
    monkeypatch.setattr(software, "_PACKAGES", ("numpy", "no-such-package"))
    (lacking,) = software.packages()
    assert lacking.state == "no"
    assert lacking.found == f"numpy {version('numpy')}, no-such-package is missing"
    assert lacking.remedy == "pip install no-such-package"


def test_data_sets_by_what_the_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDSIM_DATA", raising=False)
    (unset,) = software.data_sets()
    assert (unset.state, unset.found) == ("no", "FEDSIM_DATA is not set")
    assert "fashion_mnist.npz" in unset.remedy
    monkeypatch.setenv("FEDSIM_DATA", str(tmp_path))
    (empty,) = software.data_sets()
    assert empty.state == "no"
    assert f"none in {tmp_path}; missing cifar10 (cifar10.npz)" in empty.found
    (tmp_path / "omniglot.npz").touch()
    (one,) = software.data_sets()
    assert one.state == "yes"
    assert f"omniglot in {tmp_path}; missing" in one.found


def test_limits_of_a_container_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    assert "control group" not in hardware.cores()[0].found + hardware.memory()[0].found
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{3 * 2**29}\n")
    assert "for 0.5 of a core's time" in hardware.cores()[0].found
    assert "of which 1.5 GiB may be used" in hardware.memory()[0].found
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert "control group" not in hardware.cores()[0].found + hardware.memory()[0].found


def test_meters_by_the_sysfs(tmp_path: Path) -> None:
    absent = by_name(hardware.meters((tmp_path,)))
    assert (absent["powercap"].state, absent["ina3221"].state) == ("no", "no")
    zone = tmp_path / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, value in (("name", "package-0"), ("max_energy_range_uj", "1000"), ("energy_uj", "1")):
        (zone / name).write_text(value)
    present = by_name(hardware.meters((tmp_path,)))["powercap"]
    assert (present.state, present.found) == ("yes", "package-0")


@linux
def test_counters_of_a_connection() -> None:
    (found,) = network.tcp_counters()
    assert found.state == "yes"


@linux
def test_privileges() -> None:
    (root,) = network.root()
    assert (root.state == "yes") == (os.geteuid() == 0)
    (admin,) = network.net_admin()
    assert admin.state in {"yes", "no"}
    assert admin.found.startswith("CapEff 0x")


def test_the_kernel_is_asked_for_real() -> None:
    if (
        not (commands.installed("tc") and commands.installed("unshare"))
        or network.namespaces()[0].state != "yes"
    ):
        pytest.skip("needs tc, unshare, and a network namespace")
    found = by_name(network.qdiscs())
    assert list(found) == ["tbf", "netem", "ifb"]
    assert {finding.state for finding in found.values()} <= {"yes", "no"}, found


def test_without_tc_nothing_is_claimed(tools: Path) -> None:
    assert network.namespaces()[0].found == "cannot be probed: unshare is not installed"
    tool(tools, "unshare", "exit 0")
    found = by_name(network.qdiscs())
    assert {finding.state for finding in found.values()} == {"unknown"}
    assert found["tbf"].found == "cannot be probed: tc is not installed"
    assert found["ifb"].remedy == "install iproute2"
    tool(tools, "tc", "exit 0")
    assert by_name(network.qdiscs())["ifb"].found == "cannot be probed: ip is not installed"


def test_where_no_namespace_is_allowed(tools: Path) -> None:
    tool(tools, "unshare", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    tool(tools, "tc", "exit 0")
    tool(tools, "ip", "exit 0")
    (namespaces,) = network.namespaces()
    assert (namespaces.state, namespaces.found) == (
        "not allowed",
        "unshare: unshare failed: Operation not permitted",
    )
    found = network.qdiscs()
    assert {finding.state for finding in found} == {"unknown"}
    assert found[0].found == "cannot be probed: unshare: unshare failed: Operation not permitted"


def test_what_tc_says_decides(tools: Path) -> None:
    tool(tools, "unshare", 'while [ "${1#--}" != "$1" ]; do shift; done; [ "$1" = true ] || exec "$@"')
    tool(
        tools,
        "tc",
        'case "$*" in *netem*) echo "Error: Specified qdisc kind is unknown." >&2; exit 2;; '
        '*tbf*) echo "RTNETLINK answers: Operation not permitted" >&2; exit 2;; '
        '*filter*) echo "Error: TC classifier not found." >&2; exit 2;; esac',
    )
    tool(tools, "ip", "exit 0")
    assert network.namespaces()[0].found == "by any user, with a user namespace"
    found = {name: (finding.state, finding.found) for name, finding in by_name(network.qdiscs()).items()}
    assert found["tbf"] == ("not allowed", "RTNETLINK answers: Operation not permitted")
    assert found["netem"] == ("no", "Error: Specified qdisc kind is unknown.")
    assert found["ifb"] == ("no", "Error: TC classifier not found.")
    tool(tools, "ip", 'echo "What is ifb?" >&2; exit 1')
    tool(tools, "tc", "exit 0")
    found = {name: (finding.state, finding.found) for name, finding in by_name(network.qdiscs()).items()}
    assert found["tbf"] == ("yes", "added to a namespace of its own")
    assert found["ifb"] == ("unknown", "What is ifb?")


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tools: Path) -> None:
    started = tools / "pids"
    tool(tools, "hangs", f"sleep 3600 & echo $$ $! > {started}; sleep 3600")
    began = time.monotonic()
    said = commands.output(["hangs"], 1)
    assert said.code is None
    assert said.said == "hangs did not answer within 1 s"
    assert time.monotonic() - began < 30
    pids = [int(pid) for pid in started.read_text().split()]
    assert len(pids) == 2
    patience = time.monotonic() + 20
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < patience
        time.sleep(0.01)


def test_tun(tmp_path: Path) -> None:
    (absent,) = network.tun(tmp_path / "tun")
    assert (absent.state, absent.needed_for != "") == ("no", True)
    (tmp_path / "tun").touch()
    assert network.tun(tmp_path / "tun")[0].state == "yes"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        device = Path(folder) / "tun"
        device.touch(mode=0o000)
        with an_ordinary_user():
            (denied,) = network.tun(device)
    assert (denied.state, denied.found) == ("not allowed", f"[Errno 13] Permission denied: '{device}'")


@pytest.mark.parametrize(
    ("script", "state", "found"),
    [
        (
            'echo \'{"Client": {"Version": "28.2"}, "Server": {"Version": "27.1"}}\'',
            "yes",
            "client 28.2, engine 27.1",
        ),
        (
            'echo \'{"Client": {"Version": "28.2"}, "Server": null}\'; echo "Cannot connect." >&2; exit 1',
            "no",
            "client 28.2; Cannot connect.",
        ),
        (
            'echo "permission denied while trying to connect to the docker API" >&2; exit 1',
            "not allowed",
            "client; permission denied while trying to connect to the docker API",
        ),
    ],
)
def test_docker_by_its_command(tools: Path, script: str, state: str, found: str) -> None:
    tool(tools, "docker", script)
    (engine,) = containers.engine()
    assert (engine.state, engine.found) == (state, found)


class Engine(http.server.BaseHTTPRequestHandler):
    """The one page of an engine that is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"Version": "29.0"}' if self.path == "/version" else b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


def test_docker_by_its_socket(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket has to be short
        address = f"{folder}/docker.sock"
        monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
        (absent,) = containers.engine()
        assert absent.state == "no"
        assert f"no docker command; {address}: " in absent.found
        with socketserver.ThreadingUnixStreamServer(address, Engine) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            (there,) = containers.engine()
            server.shutdown()
            thread.join()
        assert (there.state, there.found) == ("yes", f"no docker command; {address}: engine 29.0")
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
    assert containers.engine()[0].state == "unknown"


def test_compose_as_a_plugin_or_a_command(tools: Path) -> None:
    assert containers.compose()[0].state == "no"
    tool(tools, "docker", 'echo "docker: unknown command: docker compose" >&2; exit 1')
    assert containers.compose()[0].state == "no"
    tool(tools, "docker-compose", "echo 2.29.1")
    (old,) = containers.compose()
    assert (old.state, old.found) == ("yes", "docker-compose 2.29.1")
    tool(tools, "docker", "echo 2.30.0")
    assert containers.compose()[0].found == "docker compose 2.30.0, docker-compose 2.29.1"
