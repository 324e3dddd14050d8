"""A certificate authority and a server certificate, made for one run.

``python -m fedsim.federated.engines.certificates FOLDER [HOST]...`` makes them for servers of these names.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Certificates"]

_LOOPBACK = "127.0.0.1"
_LASTS = datetime.timedelta(days=30)
_CLOCKS = datetime.timedelta(minutes=5)  # by which clocks may differ


@dataclass(frozen=True)
class Certificates:
    """PEM files of a run.

    Args:
        authority: certificate of the authority, which clients have to know.
        certificate: of the server.
        key: of the server; only its owner can read the file.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def within(cls, folder: Path) -> Certificates:
        """Those of a folder."""
        return cls(folder / "authority.pem", folder / "server.pem", folder / "server.key")

    @classmethod
    def made(cls, folder: Path, hosts: Sequence[str] = ()) -> Certificates:
        """New ones, for a server at the loopback address. The authority's key is forgotten.

        Args:
            folder: that they are written to; has none.
            hosts: further names of the server.
        """
        authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = _name("fedsim")
        root = (
            _builder(authority, authority, authority_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(authority_key, hashes.SHA256())
        )
        names = [x509.DNSName(name) for name in ("localhost", *hosts)]
        addresses = [*names, x509.IPAddress(ipaddress.ip_address(_LOOPBACK))]
        leaf = (
            _builder(_name("localhost"), authority, server_key.public_key())
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        made = cls.within(folder)
        made.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        made.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        private = server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with open(os.open(made.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(private)
        return made


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + _LASTS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


if __name__ == "__main__":
    Certificates.made(Path(sys.argv[1]), sys.argv[2:])
