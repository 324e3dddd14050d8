"""The kernel's counters against a relay that counts what passes through it."""

import contextlib
import os
import socket
import threading

import pytest

from edge.sockets import SocketCounter, Traffic, connected_sockets

linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux: /proc and TCP_INFO")


class Relay:
    """Passes bytes on between a client and a server, and counts them by direction."""

    def __init__(self, target):
        self.up = self.down = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.target = target
        self.threads = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    def serve(self):
        near, _ = self.listener.accept()
        far = socket.create_connection(self.target)
        back = threading.Thread(target=self.pump, args=(far, near, "down"))
        self.threads.append(back)
        back.start()
        self.pump(near, far, "up")

    def pump(self, source, sink, direction):
        while data := source.recv(65536):
            setattr(self, direction, getattr(self, direction) + len(data))
            sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        for thread in list(self.threads):
            thread.join(10)
            assert not thread.is_alive()
        self.listener.close()


@pytest.fixture
def echo():
    """Address of a server that sends back twice what it gets, for one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data * 2)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()
    thread.join(10)
    assert not thread.is_alive()
    listener.close()


@linux
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_counters_agree_with_a_counting_relay(echo):
    relay = Relay(echo)
    with socket.create_connection(relay.address) as client:
        (counter,) = connected_sockets([relay.address])
        before = counter.read()
        for size in (1, 100, 70_000):
            client.sendall(b"x" * size)
            left = 2 * size
            while left:
                left -= len(client.recv(65536))
        used = counter.read() - before
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    relay.close()
    counter.close()
    assert (used.bytes_sent, used.bytes_received) == (relay.up, relay.down) == (70_101, 140_202)
    for wire, count, segments in (
        (used.wire_sent, used.bytes_sent, used.segments_sent),
        (used.wire_received, used.bytes_received, used.segments_received),
    ):
        assert segments >= 3
        assert wire - count in {40 * segments, 52 * segments}


@linux
def test_a_socket_is_found_once_however_many_descriptors_it_has():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
        with socket.create_connection(where) as client, client.dup():
            counters = connected_sockets([where])
            assert [counter.peer for counter in counters] == [where]
            assert counters[0].inode == os.fstat(client.fileno()).st_ino
            for counter in counters:
                counter.close()
            assert connected_sockets([("127.0.0.1", 1)]) == []


@linux
@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv4_on_an_ipv6_socket_is_counted_as_ipv4():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
        with socket.socket(socket.AF_INET6) as client:
            client.connect((f"::ffff:{where[0]}", where[1]))
            (counter,) = connected_sockets([where])
            with counter:
                client.sendall(b"x" * 10)
                traffic = counter.read()
    assert traffic.bytes_sent == 10
    assert (traffic.wire_sent - 10) / traffic.segments_sent in {40, 52}


@linux
def test_looking_for_sockets_leaks_no_descriptors():
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            for counter in connected_sockets([listener.getsockname()]):
                counter.close()
        assert len(os.listdir("/proc/self/fd")) == before


@linux
def test_counters_outlive_the_owners_descriptor():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with SocketCounter(client.fileno()) as counter:
            client.sendall(b"x" * 10)
            client.close()
            assert counter.read().bytes_sent == 10


def test_what_is_no_tcp_socket_has_no_counters():
    one, other = socket.socketpair()
    with one, other, SocketCounter(one.fileno()) as counter:
        assert counter.read() is None
        assert counter.peer is None


def test_traffic_adds_up():
    one, two = Traffic(1, 2, 3, 4, 5, 6), Traffic(10, 20, 30, 40, 50, 60)
    assert one + two - two == one
    assert two - one == Traffic(9, 18, 27, 36, 45, 54)
