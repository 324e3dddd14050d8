"""Real worker processes: their jobs, their deaths, and that none outlives the one who started it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from fedsim.sweep.pool import Entry, Pool
from fedsim.sweep.worker import Job


def job(name: str, folder: Path) -> Job:
    """A job that cannot be done, and says so: a teacher of a data set that there is not."""
    scenario = {
        "name": "none",
        "data": {"name": "digits"},
        "model": {"backbone": name, "cut": "stage2", "bottleneck": {"name": "float16"}},
        "fleet": [{"count": 1}],
    }
    return Job("teacher", scenario, None, str(folder), False, str(folder / "checkpoints"), str(folder / "t"))


def test_what_fails_is_told_and_takes_what_needs_it_along(tmp_path: Path) -> None:
    entries = [
        Entry("b", job("absent-b", tmp_path), needs="a"),
        Entry("a", job("absent-a", tmp_path)),
        Entry("c", job("absent-c", tmp_path)),
    ]
    heard: list[tuple[str, str]] = []

    def listen(entry: Entry, message: dict[str, Any]) -> None:
        if message["event"] in {"begun", "done", "failed"}:
            heard.append((entry.name, message["event"]))

    failures = Pool(1, tmp_path / "logs").run(entries, listen)
    assert set(failures) == {"a", "b", "c"}
    assert "absent-a" in failures["a"]
    assert failures["b"] == failures["a"]
    assert "absent-c" in failures["c"]
    assert heard == [("a", "begun"), ("a", "failed"), ("b", "failed"), ("c", "begun"), ("c", "failed")]
    assert psutil.Process().children() == []


def test_worker_that_dies_fails_its_entry_and_is_replaced(tmp_path: Path) -> None:
    killed: list[int] = []

    def listen(entry: Entry, message: dict[str, Any]) -> None:
        if message["event"] == "begun" and entry.name == "second":
            assert len(killed) == 1
        if message["event"] == "begun" and not killed:
            (child,) = psutil.Process().children()
            killed.append(child.pid)
            child.kill()

    entries = [Entry(name, job(f"absent-{name}", tmp_path)) for name in ("first", "second")]
    failures = Pool(1, tmp_path / "logs").run(entries, listen)
    assert failures["first"].startswith("the worker process ended (killed by signal 9)")
    assert "absent-second" in failures["second"]
    assert psutil.Process().children() == []


def test_end_of_input_ends_a_worker_in_the_middle_of_a_job(tmp_path: Path) -> None:
    long = job("digits-cnn", tmp_path)
    long.scenario["training"] = {"teacher_epochs": 1_000_000}
    with subprocess.Popen(
        [sys.executable, "-m", "fedsim.sweep.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(f"{long.to_json()}\n".encode())
            worker.stdin.flush()
            assert b'"begin"' in worker.stdout.readline()
            assert b'"advance"' in worker.stdout.readline()
            worker.stdin.close()
            assert worker.wait(20) == 1
        finally:
            worker.kill()
