"""Scenarios in containers, by the commands that the README prints.

Needs a Docker engine and Compose, 1.29 or 2. Images are built once; each test has a project of its own.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from fedsim.measure.schema import Summary
from fedsim.runner import run as run_scenario
from fedsim.scenario import load

ROOT = Path(__file__).parents[1]
PATIENCE_S = 240
SCENARIO = {
    "name": "small",
    "seed": 7,
    "data": {"name": "digits"},
    "model": {
        "backbone": "digits-cnn",
        "backbone_arguments": {"widths": [8, 8, 16]},
        "cut": "stage2",
        "bottleneck": {"name": "integer", "bits": 8},
    },
    "training": {"teacher_epochs": 1},
    "fleet": [
        {"count": 3, "link": "wifi-home", "deadline_s": 30, "arrivals": {"kind": "closed", "pause_s": 0.05}}
    ],
}

pytestmark = pytest.mark.docker


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        found = shutil.which(command[0]) is not None
        if found and subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    return None


@pytest.fixture(scope="module")
def command() -> list[str]:
    """Compose, with the images built."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    engine = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if engine.returncode:
        pytest.skip(f"no Docker engine answers: {engine.stderr.strip().splitlines()[-1]}")
    found = compose_command()
    if found is None:
        pytest.skip("neither docker compose nor docker-compose is installed")
    subprocess.run([*found, "build", "report", "tail"], cwd=ROOT, check=True)
    return found


class Project:
    """A project of its own: a folder with scenarios and results, and containers, which end with it."""

    def __init__(self, command: list[str], folder: Path, name: str) -> None:
        self.folder = folder
        self.command = [*command, "-f", str(ROOT / "docker-compose.yml")]
        self.command += ["--project-directory", str(folder), "-p", name]
        self.name = name
        (folder / "scenarios").mkdir()
        results = folder / "results"
        results.mkdir()
        uid = os.getuid() or 1000  # root's tests run as somebody else, too
        os.chown(results, uid, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.environment = {
            **os.environ,
            "FEDSIM_UID": str(uid),
            "SCENARIO": "scenarios/small.yaml",
            "TAIL_PORT": str(port),
        }
        self.write(SCENARIO)

    def write(self, scenario: object) -> None:
        text = scenario if isinstance(scenario, str) else yaml.safe_dump(scenario)
        (self.folder / "scenarios" / "small.yaml").write_text(text)

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words],
            env=self.environment,
            text=True,
            check=check,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).stdout.split()

    def exit_code(self) -> int:
        """Of the report, when it has ended."""
        (report,) = self.containers("report")
        done = subprocess.run(
            ["docker", "wait", report], capture_output=True, text=True, check=True, timeout=PATIENCE_S
        )
        return int(done.stdout)

    def shell(self, container: str, script: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["docker", "exec", "-i", container, "sh", "-c", script],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def told(self, number: int, device: str = "device-0") -> None:
        """Wait until a device has told of so many samples."""
        (report,) = self.containers("report")
        script = f"grep -c outcome /shared/events/{device}.jsonl || true"
        wait_for(lambda: int(self.shell(report, script) or 0) >= number)

    def summary(self) -> Summary:
        return Summary.read(self.folder / "results" / "small-7" / "summary.json")

    def events(self) -> list[dict[str, object]]:
        return pq.read_table(self.folder / "results" / "small-7" / "ledger.parquet").to_pylist()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def project(command: list[str], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    made = Project(command, tmp_path, f"fedsim-test-{os.getpid()}-{abs(hash(request.node.name)) % 10**6}")
    try:
        yield made
    finally:
        made.compose("down", "-v", "--timeout", "5")


def running_of(project: Project) -> str:
    """Containers of the project that run."""
    listed = ["docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={project.name}"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout


def failed(events: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    return [event for event in events if event["stage"] == "total" and event["outcome"] == "failed"]


def test_the_command_of_the_readme_with_eight_devices(project: Project, tmp_path: Path) -> None:
    shutil.copy(ROOT / "scenarios" / "compose-split.yaml", project.folder / "scenarios" / "small.yaml")
    done = project.compose("up", "--scale", "device=8", "--exit-code-from", "report", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "compose-split: accuracy, bytes, cost on the device" in done.stdout
    folder = project.folder / "results" / "compose-split-7"
    summary = Summary.read(folder / "summary.json")
    for row in summary.rows:
        assert (row.samples, row.outcomes.failed) == (599, 0)
    counters = json.loads((folder / "links" / "link-0.json").read_text())
    assert counters["up"]["stream_bytes"] > 0
    # Payload and frame are equal to the byte to those in one process.
    scenario = load(project.folder / "scenarios" / "small.yaml", ["engine=virtual"])
    from rich.console import Console

    other = run_scenario(scenario, tmp_path / "virtual", False, Console(quiet=True), quiet=True)
    sizes = []
    for run in (folder, other):
        rows = pq.read_table(run / "ledger.parquet").to_pylist()
        sizes.append(
            {
                (one["method"], one["sample"]): (one["payload_bytes"], one["frame_bytes"])
                for one in rows
                if one["stage"] == "send"
            }
        )
    for method in ("raw-image", "float32"):  # trained elsewhere, a model's codes may differ
        mine, theirs = ({key: size for key, size in one.items() if key[0] == method} for one in sizes)
        assert mine == theirs
        assert len(mine) == 599
    assert running_of(project) == ""
    project.compose("down", "-v")
    for kind in ("container", "volume", "network"):
        listed = ["docker", kind, "ls", "-q", "--filter", f"label=com.docker.compose.project={project.name}"]
        listed += ["--all"] if kind == "container" else []
        assert subprocess.run(listed, capture_output=True, text=True, check=True).stdout == ""


def test_a_device_that_is_killed(project: Project) -> None:
    project.compose("up", "-d", "--scale", "device=3")
    project.told(5)
    (report,) = project.containers("report")
    names = {
        container: subprocess.run(
            ["docker", "logs", container], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        for container in project.containers("device")
    }
    victim, name = next(iter(names.items()))
    subprocess.run(["docker", "kill", victim], check=True, capture_output=True)
    assert project.exit_code() == 1
    lost = failed(project.events())
    assert {event["client"] for event in lost} == {name}
    assert {event["detail"] for event in lost} == {f"{name} ended without a word: its container was killed"}
    (row,) = project.summary().rows
    assert row.outcomes.failed == len(lost) > 0
    log = subprocess.run(["docker", "logs", report], capture_output=True, text=True, check=True)
    assert f"{len(lost)} of 599 samples of integer failed" in log.stderr


def test_a_device_that_is_killed_where_compose_stops_everything(project: Project) -> None:
    up = subprocess.Popen(
        [*project.command, "up", "--scale", "device=3", "--exit-code-from", "report"],
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(project.containers("device")) == 3)
    project.told(5)
    victim = project.containers("device")[0]
    subprocess.run(["docker", "kill", victim], check=True, capture_output=True)
    assert up.wait(PATIENCE_S) == 1
    lost = failed(project.events())
    (row,) = project.summary().rows
    assert row.outcomes.failed == len(lost) > 0
    assert row.outcomes.answered >= 5
    told = {event["detail"] for event in lost}
    assert any("ended without a word" in str(detail) for detail in told), told


def test_a_launch_after_another(project: Project) -> None:
    for _ in range(2):
        project.compose("up", "-d", "--scale", "device=3")
        assert project.exit_code() == 0
        project.environment["FEDSIM_ARGUMENTS"] = "--force"


def test_a_scenario_that_puts_up_with_it(project: Project) -> None:
    project.write({**SCENARIO, "most_failed": 0.5})
    project.compose("up", "-d", "--scale", "device=3")
    project.told(5)
    subprocess.run(["docker", "kill", project.containers("device")[0]], check=True, capture_output=True)
    assert project.exit_code() == 0


def test_a_tail_that_crashes(project: Project) -> None:
    project.compose("up", "-d", "--scale", "device=3")
    project.told(5)
    (tail,) = project.containers("tail")
    script = "kill -9 $(sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' /shared/server/serving)"
    project.shell(tail, script)
    assert project.exit_code() == 0
    (row,) = project.summary().rows
    assert (row.outcomes.answered, row.outcomes.failed) == (599, 0)
    assert "the server was started again, 1 time" in project.summary().remarks
    restarts = ["docker", "inspect", "-f", "{{.RestartCount}}", tail]
    assert int(subprocess.run(restarts, capture_output=True, text=True, check=True).stdout) == 1


def test_a_link_that_changes_while_it_runs(project: Project) -> None:
    project.compose("up", "-d", "--scale", "device=3")
    project.told(20)
    (link,) = project.containers("link")
    slow = json.loads(project.shell(link, "cat /shared/links/link-0.json"))
    slow["up"] |= {"delay_s": 0.2, "jitter_s": 0.0}
    project.shell(link, "/docker/relink link-0", json.dumps(slow))
    assert project.exit_code() == 0
    sends = [event for event in project.events() if event["stage"] == "send"]
    took = [event["duration_s"] for event in sorted(sends, key=lambda event: event["start_s"])]  # type: ignore[arg-type,return-value]
    assert min(took[-100:]) > 0.2 > min(took[:30])  # type: ignore[type-var,operator]


PROMETHEUS = """
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends prometheus
RUN mkdir /prometheus && chown nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
"""


@pytest.fixture(scope="module")
def prometheus(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of Prometheus: that of the environment, or Debian's."""
    if given := os.environ.get("PROMETHEUS_IMAGE"):
        return given
    name = "fedsim-test-prometheus"
    words = ["docker", "build", "--tag", name, "--build-arg"]
    words += [f"BASE_IMAGE={os.environ.get('BASE_IMAGE', 'python:3.11-slim')}", "-"]
    done = subprocess.run(words, input=PROMETHEUS, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"there is no image of Prometheus: {done.stderr.strip().splitlines()[-1]}")
    return name


def test_every_query_of_the_dashboard_finds_something(project: Project, prometheus: str) -> None:
    """Grafana itself is not started; what its dashboard asks for is asked of Prometheus."""
    monitoring = ROOT / "docker" / "monitoring"
    shutil.copytree(monitoring, project.folder / "docker" / "monitoring")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    project.environment |= {"PROMETHEUS_IMAGE": prometheus, "PROMETHEUS_PORT": str(port)}
    services = ("report", "tail", "link", "device", "metrics", "prometheus")
    project.compose("--profile", "monitoring", "up", "-d", "--scale", "device=3", *services)
    assert project.exit_code() == 0

    def asked(expression: str) -> list[dict[str, Any]]:
        end = time.time()
        words = {"query": expression, "start": end - 60, "end": end, "step": 2}
        url = f"http://127.0.0.1:{port}/api/v1/query_range?{urllib.parse.urlencode(words)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]["result"]  # type: ignore[no-any-return]

    def latest(expression: str) -> float:
        (series,) = asked(expression)
        return float(series["values"][-1][1])

    wait_for(lambda: bool(asked("fedsim_samples_total")) and latest("sum(fedsim_samples_total)") == 599)
    (row,) = project.summary().rows
    assert latest("fedsim_accuracy") == pytest.approx(row.accuracy)
    sends = [event for event in project.events() if event["stage"] == "send"]
    for level, name in (("payload", "payload_bytes"), ("frame", "frame_bytes"), ("wire", "wire_bytes")):
        told = latest(f'sum(fedsim_bytes_total{{level="{level}"}})')
        assert told == sum(event[name] for event in sends)  # type: ignore[misc]
    dashboard = json.loads((monitoring / "grafana" / "dashboards" / "fedsim.json").read_text())
    split = [panel for panel in dashboard["panels"] if "federation" not in panel["title"]]
    assert len(split) == len(dashboard["panels"]) - 2
    for panel in split:
        for target in panel["targets"]:
            found = asked(target["expr"].replace("$__rate_interval", "10s"))
            assert any(value != "NaN" for one in found for _, value in one["values"]), target["expr"]


def test_a_port_that_is_taken(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        project.environment["TAIL_PORT"] = str(taken.getsockname()[1])
        done = project.compose("up", "--exit-code-from", "report", check=False)
    assert done.returncode
    assert "address already in use" in done.stdout or "port is already allocated" in done.stdout


FEDERATED = {
    "name": "small",
    "seed": 7,
    "data": {"name": "digits", "partition": {"kind": "dirichlet", "alpha": 1.0}},
    "model": {"backbone": "digits-cnn", "backbone_arguments": {"widths": [8, 8, 16]}},
    "fleet": [{"count": 4}],
    "federation": {
        "rounds": 2,
        "limits": {"reply_s": 40.0},
        "methods": [{"name": "fedproto", "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.05}}],
    },
}


def federated(project: Project, *words: str) -> None:
    project.compose("--profile", "federated", "up", "-d", "--scale", "supernode=4", *words)


def test_four_supernodes(project: Project) -> None:
    project.write(FEDERATED)
    done = project.compose(
        *("--profile", "federated", "up", "--scale", "supernode=4", "--exit-code-from", "report"), check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    federation = project.summary().federation
    assert federation is not None
    (row,) = federation.rows
    assert [(one.cohort, one.merged) for one in row.rounds] == [(4, 4)] * 2
    assert all(f"this is client {number}" in done.stdout for number in range(4))


def test_a_supernode_that_is_lost_in_a_round_and_one_that_crashes(project: Project) -> None:
    """The rounds go on without them; the one that is started again is there for the next method."""
    (one,) = FEDERATED["federation"]["methods"]  # type: ignore[index]
    methods = [{**one, "name": name} for name in ("fedproto", "fedavg")]
    project.write({**FEDERATED, "federation": {**FEDERATED["federation"], "methods": methods}})  # type: ignore[dict-item]
    federated(project)
    (report,) = project.containers("report")
    rounds = "cat /shared/federation/rounds/run.json 2>/dev/null || echo"
    wait_for(lambda: "rounds" in project.shell(report, rounds))
    killed, crashing, *_ = project.containers("supernode")
    subprocess.run(["docker", "kill", killed], check=True, capture_output=True)
    script = (
        "for one in /proc/[0-9]*; do grep -q flower-supernod[e] $one/cmdline && kill -9 ${one#/proc/}; done"
    )
    project.shell(crashing, f"{script}; true")
    assert project.exit_code() == 0
    first, second = project.summary().federation.rows  # type: ignore[union-attr]
    assert sum("the SuperNode of client" in remark for remark in first.remarks) == 2
    assert sum("has ended, and was started again" in remark for remark in first.remarks) == 1
    assert [one.merged for one in first.rounds] == [4, 2]
    assert [one.merged for one in second.rounds] == [3, 3]


@pytest.mark.parametrize("text", ["name: [", "name: small\nfleet: [{count: -1}]\n"])
def test_a_scenario_that_cannot_be_read(project: Project, text: str) -> None:
    project.write(text)
    done = project.compose("up", "--scale", "device=2", "--exit-code-from", "report", check=False)
    assert done.returncode
    assert "scenarios/small.yaml" in done.stdout
    assert running_of(project) == ""
