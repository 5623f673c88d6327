"""Access tokens: JWTs of type at+jwt, signed with ES256."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

import jwt

from scalelab.clock import Clock
from scalelab.errors import InvalidInput
from scalelab.security.keys import SigningKey


class TokenIssuer:
    """Issues tokens in the name of `issuer` for `audience`, signed with `key`."""

    def __init__(self, key: SigningKey, issuer: str, audience: str, clock: Clock) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    def issue(
        self, subject: str, scopes: Iterable[str], ttl_s: float, client_id: str | None = None
    ) -> str:
        """A token that expires `ttl_s` (> 0) seconds from now. Each has its own jti.

        scopes: words without spaces; InvalidInput otherwise. client_id marks a service's token.
        Cost: one ECDSA signature, about 50 µs of CPU.
        """
        words = sorted(scopes)
        if not subject or ttl_s <= 0 or any(not word or " " in word for word in words):
            raise InvalidInput("a token needs a subject, a lifetime and scopes without spaces")
        now_s = int(self._clock.now().timestamp())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "scope": " ".join(words),
            "iat": now_s,
            "exp": now_s + int(ttl_s),
            "jti": uuid4().hex,
        }
        if client_id is not None:
            claims["client_id"] = client_id
        return jwt.encode(
            claims,
            self._key.private,
            algorithm="ES256",
            headers={"kid": self._key.kid, "typ": "at+jwt"},
        )
