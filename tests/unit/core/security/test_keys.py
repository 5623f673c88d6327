"""Signing keys and their files."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from scalelab.errors import CorruptData
from scalelab.security import SigningKey, jwks


def test_thumbprint_is_that_of_rfc_7638() -> None:
    """The kid hashes exactly crv, kty, x and y in that order; PyJWT reads the same key back."""
    key = SigningKey.generate()
    document = key.public_jwk()
    assert len(key.kid) == 43
    public = ECAlgorithm.from_jwk(json.dumps(document))
    assert public == key.private.public_key()
    assert document["kid"] == key.kid == SigningKey(key.private).kid
    assert jwks([key]) == {"keys": [document]}


def test_coordinates_with_leading_zeros_keep_their_length() -> None:
    """x and y are always 32 octets: a key in 256 begins with a zero, and must be read alike."""
    for secret in range(1, 400):
        jwk = SigningKey(ec.derive_private_key(secret, ec.SECP256R1())).public_jwk()
        assert len(jwk["x"]) == len(jwk["y"]) == 43


def test_file_is_for_its_owner_only_and_comes_back_as_the_same_key(tmp_path: Path) -> None:
    """Mode 0600, no draft left behind, and a second save does not replace the key."""
    path = tmp_path / "secrets" / "signing.pem"
    key = SigningKey.load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.load_or_create(path).kid == key.kid
    SigningKey.generate().save(path)
    assert SigningKey.load(path).kid == key.kid
    assert os.listdir(path.parent) == ["signing.pem"]


def test_racing_first_starts_agree_on_one_key(tmp_path: Path) -> None:
    """Two processes that start together must not sign with two keys."""
    path = tmp_path / "signing.pem"
    with ThreadPoolExecutor(8) as pool:
        kids = set(pool.map(lambda _: SigningKey.load_or_create(path).kid, range(32)))
    assert len(kids) == 1


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A readable key is a lost key; the message says what to do."""
    path = tmp_path / "signing.pem"
    SigningKey.generate().save(path)
    path.chmod(0o640)
    with pytest.raises(CorruptData, match="chmod 600"):
        SigningKey.load(path)


@pytest.mark.parametrize("kind", ["rsa", "p384", "text"])
def test_file_without_a_p256_key_is_refused(tmp_path: Path, kind: str) -> None:
    """Only ECDSA on P-256 signs here."""
    path = tmp_path / "signing.pem"
    if kind == "text":
        content = b"not a key"
    else:
        private = (
            rsa.generate_private_key(65537, 2048)
            if kind == "rsa"
            else ec.generate_private_key(ec.SECP384R1())
        )
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CorruptData):
        SigningKey.load(path)
