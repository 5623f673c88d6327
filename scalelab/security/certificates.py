"""Certificates from a private authority that is made at the first start.

The authority's key never leaves its folder; a server gets a certificate of its own, good for a
month, at each start. Whoever shall trust the servers is given the authority's certificate. A
workload's certificate says who it is by a URI instead of where it stands, and serves both ends of a
connection.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scalelab.errors import InvalidInput

_AUTHORITY_DAYS, _LEAF_DAYS = 3650, 30
_CERTIFICATE, _KEY = "authority.crt", "authority.key"


@dataclass(frozen=True, slots=True)
class Issued:
    """In PEM form: the certificate, and its key."""

    certificate: str
    key: str


class Authority:
    """A private certificate authority. certificate: what clients trust, in PEM form."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(cls, folder: Path, *, now: dt.datetime) -> Authority:
        """The authority of a folder (mode 0700), made if there is none.

        Both parts stand in one file, written aside and put in place: a crash leaves none or both.
        Raises InvalidInput if what stands there is no authority.
        """
        path = folder / _KEY
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _put_in_place(path, _make_authority(now))
        text = path.read_bytes()
        try:
            key = serialization.load_pem_private_key(text, password=None)
            certificate = x509.load_pem_x509_certificate(text)
        except ValueError as error:
            raise InvalidInput(f"{path} holds no authority; remove it to get a new one") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidInput(f"{path} holds another kind of key; remove it to get a new one")
        authority = cls(certificate, key)
        (folder / _CERTIFICATE).write_text(authority.certificate, encoding="ascii")
        return authority

    @property
    def certificate(self) -> str:
        """What clients trust, in PEM form."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def issue(self, hosts: Sequence[str], *, now: dt.datetime) -> Issued:
        """A server's certificate for these names and addresses; the first is its subject."""
        names = [_alternative(host) for host in hosts]
        lasts = dt.timedelta(days=_LEAF_DAYS)
        return self._issue(hosts[0], names, [ExtendedKeyUsageOID.SERVER_AUTH], now, lasts)

    def issue_identity(self, uri: str, *, now: dt.datetime, lasts: dt.timedelta) -> Issued:
        """A workload's certificate for both ends of a connection; `uri` is all that names it.

        Short is safe: nobody asks whether it was revoked. Source: SPIFFE's X.509-SVID.
        """
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue("workload", [x509.UniformResourceIdentifier(uri)], both, now, lasts)

    def _issue(
        self,
        subject: str,
        names: Sequence[x509.GeneralName],
        uses: Sequence[x509.ObjectIdentifier],
        now: dt.datetime,
        lasts: dt.timedelta,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(subject), self._certificate.subject, key, now, lasts)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False
            )
            .sign(self._key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        return Issued(pem, _key_text(key).decode("ascii"))


def _make_authority(now: dt.datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("scalelab private authority")
    certificate = (
        _builder(name, name, key, now, dt.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(_signs_certificates(), True)
        .sign(key, hashes.SHA256())
    )
    return _key_text(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    lasts: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + lasts)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _put_in_place(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
