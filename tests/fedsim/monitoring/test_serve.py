"""The metrics of a run, asked for over HTTP, and read by Prometheus's own parser."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.journal import Journal
from edge.meter import Event
from fedsim.errors import MonitorError
from fedsim.monitoring.samples import BOUNDS_S
from fedsim.monitoring.serve import RunMetrics, serving

Labels = tuple[tuple[str, str], ...]


def asked(port: int) -> dict[str, dict[Labels, float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**values: str) -> Labels:
    return tuple(sorted(values.items()))


def of_a_sample(number: int, prediction: int | None, client: str = "device-0") -> list[Event]:
    total = Event("run", "float32", client, "total", 1.0, 0.02, "measured", sample=number, label=1)
    if prediction is None:
        waited = replace(total, stage="send", label=None, duration_s=10.0)
        return [waited, replace(total, outcome="failed", detail="lost")]
    send = replace(total, stage="send", label=None, duration_s=0.01, payload_bytes=100, frame_bytes=110)
    send = replace(send, wire_bytes=200, reply_wire_bytes=90)
    return [send, replace(total, outcome="answered", prediction=prediction)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    return tmp_path


def test_samples_bytes_latencies_and_accuracy(folder: Path) -> None:
    first = Journal(folder / "events" / "device-0.jsonl")
    second = Journal(folder / "events" / "device-1.jsonl")
    with serving(RunMetrics(folder), "127.0.0.1", 0) as port:
        assert "fedsim_samples_total" not in asked(port)
        first.append(of_a_sample(0, prediction=1) + of_a_sample(2, prediction=0))
        assert asked(port)["fedsim_accuracy"] == {labels(method="float32"): 0.5}
        second.append(of_a_sample(1, prediction=1, client="device-1"))
        second.append(of_a_sample(3, prediction=None, client="device-1"))
        stream = Event("run", "float32", "device-1", "stream", 1.0, 9.0, "measured", wire_bytes=5000)
        second.append([stream])
        reply = Event("run", "fedavg", "client-0", "up", 1.0, 1.0, "measured", round=1, outcome="failed")
        second.append([reply])  # a message of a round, and no sample
        for _ in range(2):  # to be asked again counts nothing twice
            found = asked(port)
    first.close()
    second.close()
    assert found["fedsim_samples_total"] == {
        labels(method="float32", client="device-0", outcome="answered"): 2,
        labels(method="float32", client="device-1", outcome="answered"): 1,
        labels(method="float32", client="device-1", outcome="failed"): 1,
    }
    assert found["fedsim_accuracy"] == {labels(method="float32"): 0.5}
    of_first = {
        level: found["fedsim_bytes_total"][
            labels(method="float32", client="device-0", stage="send", level=level)
        ]
        for level in ("payload", "frame", "wire", "reply")
    }
    assert of_first == {"payload": 200, "frame": 220, "wire": 400, "reply": 180}
    assert sum(found["fedsim_bytes_total"].values()) == 3 * 500
    lasted = labels(method="float32", stage="total")
    assert found["fedsim_stage_seconds_count"] == {lasted: 3, labels(method="float32", stage="send"): 3}
    assert found["fedsim_stage_seconds_sum"][lasted] == pytest.approx(0.06)
    buckets = {
        float(dict(key)["le"]): number
        for key, number in found["fedsim_stage_seconds_bucket"].items()
        if dict(key)["stage"] == "total"
    }
    assert buckets == {bound: 3 * (bound >= 0.02) for bound in (*BOUNDS_S, float("inf"))}


def test_another_run_begins_from_zero(folder: Path) -> None:
    file = folder / "events" / "device-0.jsonl"
    journal = Journal(file)
    journal.append(of_a_sample(0, prediction=1) + of_a_sample(2, prediction=1))
    with serving(RunMetrics(folder), "127.0.0.1", 0) as port:
        assert sum(asked(port)["fedsim_samples_total"].values()) == 2
        journal.close()
        file.unlink()
        journal = Journal(file)
        journal.append(of_a_sample(0, prediction=0))
        found = asked(port)
    journal.close()
    assert sum(found["fedsim_samples_total"].values()) == 1
    assert found["fedsim_accuracy"] == {labels(method="float32"): 0}


def test_another_launch_begins_from_zero_and_another_method_does_not(folder: Path) -> None:
    events = folder / "federation" / "events"
    events.mkdir(parents=True)
    up = Event("run", "fedavg", "client-0", "up", 1.0, 1.0, "measured", round=1, payload_bytes=100)
    (folder / "begun").write_text("1")
    with serving(RunMetrics(folder), "127.0.0.1", 0) as port:
        for method in ("fedavg", "fedproto"):  # each has a new file
            (events / "events.jsonl").unlink(missing_ok=True)
            (events / "events.jsonl").write_text(replace(up, method=method).to_json() + "\n")
            found = asked(port)["fedsim_bytes_total"]
        assert {dict(key)["method"] for key in found} == {"fedavg", "fedproto"}
        (folder / "begun").write_text("2")
        (events / "events.jsonl").unlink()
        assert "fedsim_bytes_total" not in asked(port)


def test_rounds_of_a_federation(folder: Path) -> None:
    rounds = folder / "federation" / "rounds"
    with serving(RunMetrics(folder), "127.0.0.1", 0) as port:
        assert "fedsim_rounds" not in asked(port)
        rounds.mkdir(parents=True)
        personal = {"predictor": "head", "classes": "all", "test": "personal"}
        results = {"0": [{**personal, "right": 3, "total": 4}], "1": [{**personal, "right": 0, "total": 2}]}
        run = {"rounds": 2, "records": [{"results": results}, {"results": {}}]}
        (rounds / "run.json").write_text(json.dumps(run))
        found = asked(port)
    assert found["fedsim_rounds"] == {(): 2}
    assert found["fedsim_round_accuracy"] == {labels(**personal): 0.5}


def test_an_address_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(MonitorError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"),
            serving(RunMetrics(folder), "127.0.0.1", port),
        ):
            pass


def test_the_command_serves_until_it_is_asked_to_end(folder: Path) -> None:
    command = [sys.executable, "-m", "fedsim.cli", "monitor", str(folder), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline().rpartition(":")[2].partition("/")[0])
        journal = Journal(folder / "events" / "device-0.jsonl")
        journal.append(of_a_sample(0, prediction=1))
        journal.close()
        began = time.monotonic()
        assert sum(asked(port)["fedsim_samples_total"].values()) == 1
        program.terminate()
        assert program.wait(20) == 143
        assert time.monotonic() - began < 20
