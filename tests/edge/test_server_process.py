"""``python -m edge.server``: how it starts, how it ends, what it cannot start with."""

import math
import shutil
import signal
import socket
import subprocess
import threading

import grpc
import pytest

from edge.bundle import load_device
from edge.rpc import DESCRIBE, STREAM, Description, Downlink, Uplink, from_handshake, sample_message


def test_sigterm_answers_what_was_received_and_exits_0(models, start_server):
    server = start_server(models["plain"], arguments=["--wait-ms", "1000", "--batch", "64"])
    half = load_device(models["plain"])
    payload = bytes(4 * math.prod(half.feature_shape))
    ended = threading.Event()

    def messages():
        yield Uplink(handshake=from_handshake(half.handshake())).SerializeToString()
        for number in range(5):
            yield sample_message(number, payload)
        ended.wait(60)  # the device does not end the stream: the server does

    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(STREAM)(messages())
        assert Downlink.FromString(next(call)).welcome.model == half.model_id
        wait_for_samples(channel, 5)
        server.popen.send_signal(signal.SIGTERM)
        answers = [Downlink.FromString(next(call)) for _ in range(5)]
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        ended.set()
    assert sorted((answer.sample, answer.code) for answer in answers) == [(n, 0) for n in range(5)]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "shutting down"
    assert server.end() == 0, server.errors
    assert server.output == f"serving on {server.address}\n"
    assert server.errors == ""


def wait_for_samples(channel, count):
    while Description.FromString(channel.unary_unary(DESCRIBE)(b"", timeout=30)).waiting < count:
        pass


def test_a_port_in_use_is_one_clear_error(models, start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        server = start("edge.server", "--model", models["plain"], "--listen", where)
        assert server.end() == 2
    assert server.errors == f"python -m edge.server: cannot listen on {where}: Address already in use\n"
    assert server.output == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "{nowhere}"], "there is no folder"),
        (["--model", "{whole}"], "runs whole on the device"),
        (["--model", "{plain}", "--model", "{plain}"], "is given twice"),
        (["--model", "{plain}", "--listen", "localhost"], "'localhost' is not HOST:PORT"),
        (["--model", "{plain}", "--listen", "::1:50051"], "'::1:50051' is not HOST:PORT"),
        (["--model", "{plain}", "--batch", "0"], "'0' is not a whole number of at least 1"),
        (["--model", "{plain}", "--wait-ms", "-1"], "'-1' is not a number of at least 0"),
        (["--model", "{plain}", "--tls-cert", "{file}"], "--tls-cert and --tls-key"),
        ([], "--model"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(models, tmp_path, capsys, arguments, words):
    from edge.server import main

    (tmp_path / "file").write_text("")
    names = {"nowhere": tmp_path / "nowhere", "file": tmp_path / "file", **models}
    with pytest.raises(SystemExit) as caught:
        main([argument.format(**names) for argument in arguments])
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("python -m edge.server: ")
    assert output.err.count("\n") == 1
    assert words in output.err


def test_help_names_every_option(capsys):
    from edge.server import main

    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    for option in ("--model", "--listen", "--batch", "--wait-ms", "--max-in-flight", "--grace", "--tls-cert"):
        assert option in output


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program for a certificate")
def test_tls_end_to_end(models, samples, start, start_server, tmp_path, events_of):
    key, certificate, out = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "events.jsonl"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tail",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    server = start_server(models["plain"], arguments=["--tls-cert", certificate, "--tls-key", key])
    common = ["--server", server.address, "--model", models["plain"], "--samples", samples, "--limit", "2"]
    trusting = start("edge.device", *common, "--out", out, "--tls-ca", certificate)
    assert trusting.end() == 0, trusting.errors
    events = events_of(out)
    (stream,) = events.pop(None)["stream"]
    assert {stages["total"][0]["outcome"] for stages in events.values()} == {"answered"}
    assert stream["wire_bytes"] > sum(stages["send"][0]["frame_bytes"] for stages in events.values())

    plain = start("edge.device", *common, "--out", tmp_path / "plain.jsonl", "--deadline", "0.5")
    assert plain.end() == 4, plain.errors
