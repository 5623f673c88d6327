"""Idempotency keys: a retried request has its effect once and gets the first answer again.

Theory of operation
    The record (scope, fingerprint of the body, answer) lies in the owner's database and is
    written in the transaction of the effect: both exist or neither does. A scope names the
    user, the route and the key, so keys of two users never meet. The same key with another body
    is a mistake of the caller and changes nothing.

Invariants (tests cite them)
    K1  One scope has at most one effect, however many requests race and wherever one crashes.
    K2  A stored answer is replayed byte for byte; answers of 5xx are never stored.
    K3  A key met with another body is refused.
Source: IETF draft-ietf-httpapi-idempotency-key-header; differs in: the key is not a structured
field, plain visible ASCII is taken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scalelab.errors import InvalidInput, InvariantBroken

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose key it is. user: subject of the token. route: method and template. key: parsed."""

    user: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered. headers: those worth replaying (Location, …)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    def __post_init__(self) -> None:
        if not 200 <= self.status < 500:
            raise InvariantBroken(f"an answer of status {self.status} is not final")


def parse_key(raw: str | None) -> str:
    """The key of an Idempotency-Key header: 1..255 visible ASCII characters.

    Raises InvalidInput with code idempotency_key_missing or idempotency_key_invalid (400).
    """
    if raw is None or not raw.strip():
        raise InvalidInput("Send an Idempotency-Key header.", code="idempotency_key_missing")
    key = raw.strip(" \t")
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            "An Idempotency-Key is 1 to 255 visible ASCII characters.",
            code="idempotency_key_invalid",
        )
    return key


def fingerprint(body: bytes) -> bytes:
    """32 bytes that differ where bodies differ (SHA-256 of the octets as sent)."""
    return hashlib.sha256(body).digest()
