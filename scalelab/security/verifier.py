"""Verify access tokens: signature, type, claims; remember the good ones for a short while.

Theory of operation
    The algorithm is ES256 and nothing else; the key comes from the configured JWKS by `kid`.
    Header members that bring a key, name a place to get one, or change how the token is read
    are refused. A verified token is remembered by the SHA-256 digest of its text until
    min(exp, 60 s from now), so that a keep-alive client costs one hash a request instead of one
    ECDSA verification. The memory is bounded, and is flushed when the set of keys changes.

Invariants (tests cite them)
    V1  verify() raises nothing but Unauthenticated, and Unavailable when no key can be read.
    V2  Nothing outside the configured JWKS decides about a signature.
    V3  A remembered token is refused from its expiry (plus leeway) on, and after its key has gone.
Source: RFC 9068 section 4, RFC 8725.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from jwt.algorithms import ECAlgorithm

from scalelab.clock import Clock
from scalelab.errors import Unauthenticated
from scalelab.security.claims import Expectation, check_claims, invalid
from scalelab.security.compact import CompactToken, MalformedError, split, strict_object
from scalelab.security.jwks import JwksSource
from scalelab.security.principal import Principal

CACHE_LIMIT = 4096
CACHE_TTL_S = 60.0

_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_REFUSED_MEMBERS = frozenset(
    {"crit", "b64", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "zip", "enc", "p2c", "p2s"}
)
_ES256 = ECAlgorithm(ECAlgorithm.SHA256)


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    until_monotonic_s: float


class TokenVerifier:
    """Verifies tokens of one issuer for one audience. Safe for any number of callers at once."""

    def __init__(
        self,
        jwks: JwksSource,
        issuer: str,
        audience: str,
        clock: Clock,
        leeway_s: float = 30.0,
        *,
        cache_limit: int = CACHE_LIMIT,
    ) -> None:
        self._jwks = jwks
        self._expected = Expectation(issuer, audience, leeway_s)
        self._clock = clock
        self._cache_limit = cache_limit
        self._cache: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._generation = jwks.generation

    async def verify(self, token: str | None) -> Principal:
        """The principal of a good token.

        Raises Unauthenticated with code token_missing, token_malformed, token_expired or
        token_invalid; Unavailable if the issuer's keys have never been read.
        """
        if not token:
            raise Unauthenticated("An access token is required.", code="token_missing")
        try:
            digest = hashlib.sha256(token.encode("ascii")).digest()
        except UnicodeEncodeError as error:
            raise _malformed() from error
        remembered = self._recall(digest)
        if remembered is not None:
            return remembered
        try:
            parts = split(token)
        except MalformedError as error:
            raise _malformed() from error
        await self._check_signature(parts)
        try:
            claims = strict_object(parts.payload)
        except MalformedError as error:
            raise _malformed() from error
        principal = check_claims(claims, self._expected, now_s=self._clock.now().timestamp())
        self._remember(digest, principal)
        return principal

    def recall(self, token: str) -> Principal | None:
        """The principal of a token that was verified a moment ago and is still good; V3 holds.

        Never waits and never raises; None says nothing about the token.
        """
        try:
            return self._recall(hashlib.sha256(token.encode("ascii")).digest())
        except UnicodeEncodeError:
            return None

    async def _check_signature(self, parts: CompactToken) -> None:
        header = parts.header
        kid = header.get("kid")
        type_ = header.get("typ")
        if (
            header.get("alg") != "ES256"
            or not isinstance(type_, str)
            or type_.lower() not in _TYPES
            or not _REFUSED_MEMBERS.isdisjoint(header)
            or not isinstance(kid, str)
            or not 0 < len(kid) <= 128
        ):
            raise invalid()
        key = await self._jwks.key(kid)
        if key is None or not _ES256.verify(parts.signing_input, key, parts.signature):
            raise invalid()

    def _recall(self, digest: bytes) -> Principal | None:
        if self._generation != self._jwks.generation:
            self._generation = self._jwks.generation
            self._cache.clear()
        found = self._cache.get(digest)
        if found is None:
            return None
        expires_s = found.principal.expires_at.timestamp() + self._expected.leeway_s
        if (
            self._clock.monotonic_s() >= found.until_monotonic_s
            or self._clock.now().timestamp() > expires_s
        ):
            del self._cache[digest]
            return None
        self._cache.move_to_end(digest)
        return found.principal

    def _remember(self, digest: bytes, principal: Principal) -> None:
        left_s = principal.expires_at.timestamp() - self._clock.now().timestamp()
        if left_s <= 0:
            return
        until_s = self._clock.monotonic_s() + min(left_s, CACHE_TTL_S)
        self._cache[digest] = _Remembered(principal, until_s)
        while len(self._cache) > self._cache_limit:
            self._cache.popitem(last=False)


def _malformed() -> Unauthenticated:
    return Unauthenticated("The access token cannot be read.", code="token_malformed")
