"""The private authority's certificates: what they say, and for how long."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from scalelab.security.certificates import Authority

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
URI = "spiffe://scalelab.test/stock"


def test_a_workload_is_named_by_its_uri_alone_and_may_be_both_ends(tmp_path: Path) -> None:
    """No address and no name of a machine; signed by the authority."""
    authority = Authority.open(tmp_path / "ca", now=NOW)
    issued = authority.issue_identity(URI, now=NOW, lasts=dt.timedelta(hours=2))
    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(names) == [x509.UniformResourceIdentifier(URI)]
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.encode()))


def test_a_workload_s_certificate_ends_when_it_was_told_to(tmp_path: Path) -> None:
    """It begins an hour early, because clocks differ."""
    authority = Authority.open(tmp_path / "ca", now=NOW)
    issued = authority.issue_identity(URI, now=NOW, lasts=dt.timedelta(hours=2))
    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    assert leaf.not_valid_before_utc == NOW - dt.timedelta(hours=1)
    assert leaf.not_valid_after_utc == NOW + dt.timedelta(hours=2)


def test_a_server_s_certificate_cannot_be_a_caller_s(tmp_path: Path) -> None:
    """An edge's key that leaks opens no door of the mesh."""
    issued = Authority.open(tmp_path / "ca", now=NOW).issue(["localhost"], now=NOW)
    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.SERVER_AUTH]
