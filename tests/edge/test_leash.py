"""Leashes: programs that end with the one that holds the other end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import signal, sys, threading
from pathlib import Path
from edge.leash import Leash
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
leash = Leash(True if len(sys.argv) == 1 else Path(sys.argv[1]))
leash.wait("first")
print("let go", flush=True)
threading.Event().wait()
"""


def started(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_standard_input_lets_go_and_its_end_is_sigterm() -> None:
    with started() as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready first\n"
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "let go\n"
        program.stdin.close()
        assert program.wait(20) == 7


@pytest.fixture
def pipes(tmp_path: Path) -> Path:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    return tmp_path


def test_named_pipes_let_go_and_their_end_is_sigterm(pipes: Path) -> None:
    held = os.open(pipes / "in", os.O_RDWR)
    said = os.open(pipes / "out", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with started(str(pipes)) as program:
            assert program.stdout is not None
            deadline, text = time.monotonic() + 20, b""
            while b"\n" not in text and time.monotonic() < deadline:
                try:
                    text += os.read(said, 100)
                except BlockingIOError:
                    time.sleep(0.02)
            assert text == b"ready first\n"
            os.write(held, b"\n")
            assert program.stdout.readline() == "let go\n"
            os.close(held)
            held = -1
            assert program.wait(20) == 7
    finally:
        for descriptor in (held, said):
            if descriptor >= 0:
                os.close(descriptor)


def test_named_pipes_that_nobody_holds_end_the_program_at_once(pipes: Path) -> None:
    with started(str(pipes)) as program:
        try:
            assert program.wait(20) == 7
        finally:
            if program.poll() is None:
                program.send_signal(signal.SIGKILL)
