"""The relay as a program: what it says, how it ends, and what it cannot begin with."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge.link import Direction, LinkSpec, Trace

ROOT = Path(__file__).parents[3]


@pytest.fixture
def echo():
    """Port of a server that sends back what it gets, connection by connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def begin(start, wait_until, tmp_path, echo):
    """Starts a relay to the echo server and waits until it listens; the process and its address."""

    def launch(*arguments):
        announced = tmp_path / "relay.json"
        relay = start(
            "edge.link",
            *("--to", f"127.0.0.1:{echo}", "--spec", tmp_path / "link.json", "--announce", announced),
            *arguments,
        )
        wait_until(lambda: announced.exists() or relay.popen.poll() is not None, "starting a relay")
        assert relay.popen.poll() is None, relay.errors
        record = json.loads(announced.read_text())
        assert record["pid"] == relay.popen.pid
        host, _, port = record["address"].rpartition(":")
        return relay, (host, int(port))

    (tmp_path / "link.json").write_text(LinkSpec(Direction(50e6)).to_json())
    return launch


def exchange(connection, size):
    connection.sendall(bytes(size))
    left = size
    while left:
        left -= len(connection.recv(left))


def test_it_relays_counts_rereads_its_link_and_ends_at_once(begin, wait_until, tmp_path):
    counters = tmp_path / "counters.json"
    relay, address = begin("--counters", counters)
    with socket.create_connection(address, timeout=20) as connection:
        exchange(connection, 10_000)
        relay.popen.send_signal(signal.SIGUSR1)
        wait_until(counters.exists, "writing the counters")
        first = json.loads(counters.read_text())
        assert first["up"]["stream_bytes"] == 10_000
        assert first["up"]["wire_bytes"] >= LinkSpec().wire_bytes(10_000)
        assert first["down"]["busy_s"] == 0

        (tmp_path / "link.json").write_text('{"up": {"rate": 5}}')
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays as it is" in relay.errors, "refusing a link")
        assert "link.json: up has no 'rate'" in relay.errors
        (tmp_path / "link.json").write_text(LinkSpec(down=Direction(50e6)).to_json())
        relay.popen.send_signal(signal.SIGHUP)

        def shaped():
            exchange(connection, 1000)
            counters.unlink()
            relay.popen.send_signal(signal.SIGUSR1)
            wait_until(counters.exists, "writing the counters")
            return json.loads(counters.read_text())["down"]["busy_s"] > 0

        wait_until(shaped, "taking up a link")
        assert relay.end(signal.SIGTERM) == 0
    last = json.loads(counters.read_text())
    assert last["down"]["stream_bytes"] == last["up"]["stream_bytes"] >= 11_000
    assert last["down"]["busy_s"] > 0
    assert last["connections"][0]["peer"].startswith("127.0.0.1:")
    assert relay.output.startswith("relaying from 127.0.0.1:")


def test_its_traces_begin_anew_when_it_is_told(begin, wait_until, tmp_path):
    slow_s = 0.5
    trace = Trace([0, slow_s], [1e3, 100e6], repeat=False)
    (tmp_path / "link.json").write_text(LinkSpec(Direction(trace=trace)).to_json())
    relay, address = begin()
    time.sleep(slow_s)
    with socket.create_connection(address, timeout=20) as connection:
        exchange(connection, 1448)  # the trace is fast by now, and stays so
        relay.popen.send_signal(signal.SIGUSR2)

        def slow_again():
            began = time.monotonic()
            exchange(connection, 1448)
            return time.monotonic() - began > slow_s / 2

        wait_until(slow_again, "a trace that begins anew")
        assert relay.end(signal.SIGTERM) == 0


def test_it_ends_with_who_holds_its_leash(echo, tmp_path):
    (tmp_path / "link.json").write_text("{}")
    command = [sys.executable, "-m", "edge.link", "--leashed", "--to", f"127.0.0.1:{echo}"]
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*command, "--spec", str(tmp_path / "link.json")],
        stdin=reading, stdout=subprocess.PIPE, cwd=ROOT, text=True,
    )  # fmt: skip
    os.close(reading)
    assert process.stdout.readline().startswith("relaying from")
    os.close(writing)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ('{"up": {"loss": 3}}', ["--to", "127.0.0.1:1"], "link.json: up: loss is 3; a number at least 0"),
        ("{}", ["--to", "nowhere"], "argument --to: 'nowhere' is not HOST:PORT"),
        ("{}", ["--to", "127.0.0.1:1", "--listen", "192.0.2.1:0"], "cannot listen on 192.0.2.1:0"),
        ("{}", [], "--to"),
    ],
)
def test_what_it_cannot_begin_with(tmp_path, capsys, spec, arguments, message):
    from edge.link.__main__ import main

    path = tmp_path / "link.json"
    path.write_text(spec)
    with pytest.raises(SystemExit) as caught:
        main(["--spec", str(path), *arguments])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_it_loads_neither_torch_nor_grpc(tmp_path):
    script = (
        "import sys, edge.link, edge.link.__main__, edge.link.relay, edge.link.tc; "
        "print(sorted({'torch', 'grpc', 'constriction'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
