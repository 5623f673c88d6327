"""API keys: long random words for programs, of which the gateway keeps only digests.

Theory of operation
    A key reads `slk_<id>_<secret>`. The id is public: it finds the record, names the caller in the
    log and in rate keys, and is what people say when they withdraw a key. The secret has 256 random
    bits, so one SHA-256 over the whole text is enough: there is no dictionary to try, and a slow
    hash would only be a way to keep the gateway busy. Digests are compared in constant time.

Invariants (tests cite them)
    K1  A key is good only if its id is known, its digest matches and it has not expired.
    K2  An unknown id and a wrong secret are one answer, and cost the same comparison.
    K3  No secret is kept, logged, or sent on to a service.

Source: RFC 6750 section 5.3 on bearer secrets in URLs; differs in: the header is X-API-Key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from scalelab.errors import InvalidInput, Unauthenticated

HEADER = b"x-api-key"
PREFIX = "slk_"

_KEY = re.compile(r"slk_([a-z0-9]{6,32})_([A-Za-z0-9\-_]{43,128})\Z")
_ID = re.compile(r"[a-z0-9]{6,32}\Z")
_IN_QUERY = re.compile(
    rb"(?:\A|[&;])(?:x[-_])?(?:api[-_]?key|access[-_]?token)=|slk_[a-z0-9]{6,32}_", re.IGNORECASE
)
_NO_DIGEST = bytes(32)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The record of one key. digest: SHA-256 of the whole text, 32 bytes. owner: who it was given.

    plan: of the rate rules, None = the default. expires_at: aware; None = until withdrawn.
    """

    key_id: str
    digest: bytes
    owner: str
    plan: str | None = None
    scopes: frozenset[str] = frozenset()
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if not _ID.match(self.key_id):
            raise InvalidInput(f"key id {self.key_id!r} is not 6 to 32 of a-z0-9", field="id")
        if len(self.digest) != len(_NO_DIGEST):
            raise InvalidInput("a key's digest is 32 bytes of SHA-256", field="sha256")


class KeyRing:
    """All keys at one time; immutable. Raises InvalidInput if two have one id."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._by_id: dict[str, ApiKey] = {}
        for key in keys:
            if key.key_id in self._by_id:
                raise InvalidInput(f"two keys have the id {key.key_id}", field="id")
            self._by_id[key.key_id] = key

    def __len__(self) -> int:
        return len(self._by_id)

    def verify(self, text: str | None, *, now: datetime) -> ApiKey:
        """The record of a good key (K1). Cost: one SHA-256, about a microsecond.

        Raises Unauthenticated: key_missing, key_malformed, key_invalid, key_expired.
        """
        if not text:
            raise Unauthenticated("An API key is required.", code="key_missing")
        found = _KEY.match(text)
        if found is None:
            raise Unauthenticated("The API key cannot be read.", code="key_malformed")
        key = self._by_id.get(found.group(1))
        kept = key.digest if key is not None else _NO_DIGEST
        if not hmac.compare_digest(digest_of(text), kept) or key is None:
            raise Unauthenticated("The API key is not valid.", code="key_invalid")
        if key.expires_at is not None and now >= key.expires_at:
            raise Unauthenticated("The API key has expired.", code="key_expired")
        return key


def digest_of(text: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(text.encode("ascii", "replace")).digest()


def key_text(key_id: str, secret: str) -> str:
    """The key as its owner gets it, once. secret: at least 43 characters of base64url, random.

    Raises InvalidInput for parts that would not be read back.
    """
    text = f"{PREFIX}{key_id}_{secret}"
    if not _KEY.match(text):
        raise InvalidInput("a key has an id of 6 to 32 and a secret of 43 to 128 characters")
    return text


def in_query(query: bytes | None) -> bool:
    """Whether a query string carries a credential: it would stand in logs and in histories."""
    return bool(query) and _IN_QUERY.search(query) is not None
