"""Programs under a keeper: nothing that comes of them stays behind."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fedsim.federated.engines.programs import Program, alive, environment, tail

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the keeper adopts on Linux only"
)

#: Starts a process in a session of its own and a daemon, says which, and waits.
MOTHER = """
import os, signal, subprocess, time
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
command = "setsid sleep 601 >/dev/null 2>&1 & echo $!"
daemon = subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout.strip()
print(os.getpid(), child.pid, daemon, flush=True)
time.sleep(600)
"""
DEAF = MOTHER.replace("child =", "signal.signal(signal.SIGTERM, signal.SIG_IGN); child =")
#: Ends at once, and leaves a child behind.
CHILDLESS = (
    "import subprocess; print(subprocess.Popen(['sleep', '602']).pid, flush=True); raise SystemExit(5)"
)


def started(code: str, folder: Path) -> Program:
    return Program("program", [sys.executable, "-c", code], environment(folder), folder)


def family(log: Path, size: int) -> list[int]:
    """The processes that a program says it has."""
    end = time.monotonic() + 30
    while len(found := log.read_text().split() if log.exists() else []) < size:
        assert time.monotonic() < end
        time.sleep(0.02)
    return [int(pid) for pid in found]


def assert_ended(pids: list[int]) -> None:
    end = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < end, pids
        time.sleep(0.02)


@pytest.mark.parametrize("code", [MOTHER, DEAF], ids=["at once", "killed"])
def test_a_program_is_stopped_with_all_that_came_of_it(tmp_path, code):
    program = started(code, tmp_path)
    pids = family(program.log, 3)
    assert all(map(alive, pids))
    assert program.poll() is None
    program.terminate()
    program.wait()
    assert not any(map(alive, pids))


def test_what_a_program_leaves_behind_is_ended_with_it(tmp_path):
    program = started(CHILDLESS, tmp_path)
    pids = family(program.log, 1)
    program.wait()
    assert program.poll() == 5
    assert not any(map(alive, pids))
    assert str(program.ended(5)).startswith("program ended with exit code 5:\n  ")


def test_nothing_outlives_whoever_started_it(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from fedsim.federated.engines.programs import Program, environment\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"program = Program('program', [sys.executable, '-c', {MOTHER!r}], environment(folder), folder)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment(tmp_path))
    pids = family(tmp_path / "program.log", 3)
    keeper = [child.pid for child in psutil.Process(parent.pid).children()]
    parent.kill()
    parent.wait()
    assert_ended([*pids, *keeper])


def test_a_program_that_there_is_not(tmp_path):
    program = Program("program", ["no-such-program"], environment(tmp_path), tmp_path)
    program.wait()
    assert program.poll() == 127
    assert "no-such-program: No such file" in tail(program.log)


def test_a_program_ended_by_a_signal(tmp_path):
    program = started("import os; os.kill(os.getpid(), 9)", tmp_path)
    program.wait()
    assert program.poll() == 137


def test_the_environment_keeps_flower_to_itself(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = environment(tmp_path)
    assert found["FLWR_HOME"] == found["RAY_TMPDIR"] == str(tmp_path)
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["FLWR_TELEMETRY_ENABLED"] == found["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert environment(tmp_path).get("RAY_TMPDIR") != str(tmp_path)
