"""What the relay does against what the link that it is asked to be would do."""

import contextlib
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

import pytest

from edge.link import Direction, LinkSpec

from .processes import PATIENCE_S, ROOT

LARGE = 10_000_000
RATE_BPS = 20e6
PAUSE_S = 0.05  # between messages: what a token bucket would save up

# For each message: its size, then its bytes; the answer is when the last of them had come.
SINK = """
import socket, struct, sys, threading, time

def serve(connection):
    try:
        answer(connection)
    except ConnectionResetError:
        pass  # the relay was stopped with the connection open

def answer(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(1 << 18)
    while header := connection.recv(8, socket.MSG_WAITALL):
        left = struct.unpack("=q", header)[0]
        while left:
            left -= connection.recv_into(buffer, min(left, len(buffer)))
        connection.sendall(struct.pack("=d", time.monotonic()))

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

pytestmark = pytest.mark.benchmark


@contextlib.contextmanager
def process(*command):
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running.stdout.readline().split()
        finally:
            running.terminate()
            running.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def sink():
    with process("-c", SINK) as (port,):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def linked(sink, tmp_path):
    """Starts a relay to the sink, as a process of its own; yields how to connect."""

    @contextlib.contextmanager
    def start(spec):
        path = tmp_path / "link.json"
        path.write_text(spec.to_json())
        with process("-m", "edge.link", "--to", sink, "--spec", path) as words:
            host, _, port = words[2].rpartition(":")
            yield lambda: Client((host, int(port)))

    return start


class Client:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(1)  # the handshake is behind it

    def send(self, size):
        """Seconds until the last byte was there, and until its answer was back; of ``size`` bytes in all."""
        message = struct.pack("=q", size - 8 if size > 8 else 0) + bytes(max(size - 8, 0))
        began = time.monotonic()
        self.socket.sendall(message)
        (arrived,) = struct.unpack("=d", self.socket.recv(8, socket.MSG_WAITALL))
        return arrived - began, time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def of(values):
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 3),
        "min": round(ordered[0], 3),
    }


def test_rate(report, linked):
    figures = {}
    for rate in (5e6, 20e6, 100e6):
        spec = LinkSpec(Direction(rate))
        with linked(spec) as connect, connect() as client:
            seconds = client.send(LARGE)[0]
        reached = 8 * spec.wire_bytes(LARGE) / seconds
        figures[f"{rate / 1e6:g}_mbit_s"] = {
            "seconds": round(seconds, 4),
            "wire_mbit_s": round(reached / 1e6, 3),
            "error_percent": round(100 * (reached / rate - 1), 2),
        }
    report("link rate", {"bytes": LARGE, **figures}, {"error_percent": "within 2"})


def test_delay(report, linked):
    figures = {}
    for delay in (0.0, 0.025):
        spec = LinkSpec(Direction(delay_s=delay), Direction(delay_s=delay))
        with linked(spec) as connect, connect() as client:
            times = []
            for _ in range(60):
                times.append(client.send(1))
                time.sleep(0.01)
        figures[f"{delay * 1e3:g}_ms"] = {
            "one_way_error_ms": of([1e3 * (one_way - delay) for one_way, _ in times]),
            "round_trip_error_ms": of([1e3 * (both - 2 * delay) for _, both in times]),
        }
    report("link delay", figures, {"one_way_error_ms": "p50 within 1.5"})


def test_small_payloads(report, linked):
    spec = LinkSpec(Direction(RATE_BPS))
    figures = {}
    with linked(spec) as connect, connect() as client:
        for size in (1448, 5_000, 20_000, 60_000):
            ideal = 1e3 * 8 * spec.wire_bytes(size) / RATE_BPS
            times = []
            for _ in range(20):
                times.append(1e3 * client.send(size)[0])
                time.sleep(PAUSE_S)
            figures[f"{size}_bytes"] = {"ideal_ms": round(ideal, 3), "measured_ms": of(times)}
    report("link small payloads", {"mbit_s": RATE_BPS / 1e6, **figures}, {"measured_ms": "min >= ideal"})


def shared(jobs):
    """Processor sharing: when each of (start, size) is done, by events."""
    wire = LinkSpec().wire_bytes
    left = {number: 8.0 * wire(size) for number, (_, size) in enumerate(jobs)}
    done, now = {}, 0.0
    while left:
        active = [number for number in left if jobs[number][0] <= now]
        following = min((jobs[number][0] for number in left if jobs[number][0] > now), default=float("inf"))
        if active:
            share = RATE_BPS / len(active)
            following = min(following, now + min(left[number] for number in active) / share)
            for number in active:
                left[number] -= (following - now) * share
                if left[number] < 1e-3:
                    del left[number]
                    done[number] = following
        now = following
    return [done[number] - start for number, (start, _) in enumerate(jobs)]


def test_connections_at_once(report, linked):
    cases = {
        "two_staggered": [(0.0, 2_500_000), (0.25, 500_000)],
        "four_equal": [(0.0, 600_000)] * 4,
        "four_mixed": [(0.0, 1_500_000), (0.1, 60_000), (0.2, 400_000), (0.3, 20_000)],
    }
    figures = {}
    with linked(LinkSpec(Direction(RATE_BPS))) as connect:
        for name, jobs in cases.items():
            clients = [connect() for _ in jobs]
            measured = [0.0] * len(jobs)
            origin = time.monotonic() + 0.05

            def send(number, clients=clients, jobs=jobs, measured=measured, origin=origin):
                time.sleep(max(0.0, origin + jobs[number][0] - time.monotonic()))
                measured[number] = clients[number].send(jobs[number][1])[0]

            threads = [threading.Thread(target=send, args=(number,)) for number in range(len(jobs))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
            for client in clients:
                client.socket.close()
            expected = shared(jobs)
            figures[name] = {
                "processor_sharing_ms": [round(1e3 * value, 1) for value in expected],
                "measured_ms": [round(1e3 * value, 1) for value in measured],
                "mean_error_percent": round(100 * (sum(measured) / sum(expected) - 1), 2),
            }
    report("link sharing", {"mbit_s": RATE_BPS / 1e6, **figures}, {"mean_error_percent": "within 5"})
