"""Signing keys: ECDSA on P-256, named by their thumbprint, kept in files only the owner reads."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from scalelab.errors import CorruptData
from scalelab.security.compact import encode_base64url

Jwk = dict[str, str]
JwkSet = dict[str, list[Jwk]]


class SigningKey:
    """A private ES256 key. `kid` is the RFC 7638 thumbprint, so equal keys have equal names."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self.private = private
        numbers = private.public_key().public_numbers()
        self._point = {
            "crv": "P-256",
            "kty": "EC",
            "x": encode_base64url(numbers.x.to_bytes(32, "big")),
            "y": encode_base64url(numbers.y.to_bytes(32, "big")),
        }
        canonical = json.dumps(self._point, sort_keys=True, separators=(",", ":"))
        self.kid = encode_base64url(hashlib.sha256(canonical.encode()).digest())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PEM file. CorruptData if others may read it or it holds no P-256 key; OSError."""
        if path.stat().st_mode & 0o077:
            raise CorruptData(f"{path} may be read by others; make it: chmod 600 {path}")
        try:
            private = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise CorruptData(f"{path} is not an unencrypted PEM private key") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
            raise CorruptData(f"{path} holds no key on the curve P-256")
        return cls(private)

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """The key in `path`, made first where there is none. Racing processes get the same key."""
        try:
            return cls.load(path)
        except FileNotFoundError:
            cls.generate().save(path)
            return cls.load(path)

    def save(self, path: Path) -> None:
        """Write the PEM file, mode 0600, whole or not at all; a file already there stays."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # fails if it exists: the first writer wins
        except FileExistsError:
            return
        finally:
            os.unlink(draft)

    def public_jwk(self) -> Jwk:
        """The public half as a JWK, for a JWKS document."""
        return {**self._point, "kid": self.kid, "alg": "ES256", "use": "sig"}


def jwks(keys: Iterable[SigningKey]) -> JwkSet:
    """The JWKS document of these keys; during a rotation it holds the old and the new one."""
    return {"keys": [key.public_jwk() for key in keys]}
