"""Certificates of a run: a client that knows the authority trusts the server, and nobody else."""

import socket
import ssl
import stat
import threading

import pytest

from fedsim.federated.engines.certificates import Certificates


def shaken_hands(server: Certificates, client: Certificates, name: str) -> bytes:
    """What a server says over TLS to a client that trusts the authority of ``client``."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(server.certificate, server.key)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                with theirs.wrap_socket(connection, server_side=True) as secured:
                    secured.sendall(b"hello")
            except OSError:
                pass

    thread = threading.Thread(target=answer)
    thread.start()
    ours = ssl.create_default_context(cafile=str(client.authority))
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        with (
            socket.create_connection(listener.getsockname(), timeout=10) as plain,
            ours.wrap_socket(plain, server_hostname=name) as secured,
        ):
            return secured.recv(5)
    finally:
        thread.join()
        listener.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_authority_vouches_for_the_server(tmp_path, name):
    made = Certificates.made(tmp_path)
    assert shaken_hands(made, made, name) == b"hello"
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600


def test_no_other_authority_and_no_other_name_does(tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    one, other = map(Certificates.made, folders)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate"):
        shaken_hands(one, other, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        shaken_hands(one, one, "127.0.0.2")
