"""Where verification keys come from: a fixed set, or an issuer's JWKS document over HTTP.

Theory of operation
    A token's `kid` is only ever looked up in the configured set; no key travels in a token. An
    unknown kid may mean a rotation, so it asks the issuer again, but at most once per
    `min_interval_s` (once a second while there are no keys at all): a thousand invented kids cost
    one fetch. A set older than `max_age_s` is read again, so that a withdrawn key goes away; if
    the issuer is not there, the set in hand serves until `max_stale_s`. `generation` grows
    whenever the set of keys changes.

Keys of another type, curve, algorithm or use are not loaded at all.
Source: RFC 7517; RFC 8725 section 3.1 (the algorithm is bound to the key).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)

from scalelab.clock import Clock, SystemClock
from scalelab.errors import ScalelabError, Unavailable
from scalelab.security.compact import MalformedError, decode_base64url

Fetch = Callable[[str], Awaitable[bytes]]
"""Takes a URL, returns the body of its 200 answer; any ScalelabError otherwise."""

Keys = dict[str, EllipticCurvePublicKey]

_FIRST_KEYS_PAUSE_S = 1.0


class JwksSource(Protocol):
    """Finds verification keys by name."""

    @property
    def generation(self) -> int:
        """Grows whenever the set of keys changes."""
        ...

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        """The key, or None if the issuer has none of that name. Unavailable if it cannot say."""
        ...


class StaticJwks:
    """A fixed JWKS document; for tests and for processes that know their issuer's keys."""

    generation = 0

    def __init__(self, document: Mapping[str, object]) -> None:
        self._keys = read_keys(document)

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        return self._keys.get(kid)


class HttpJwks:
    """The JWKS document at `url`, fetched when needed and kept. One fetch at a time."""

    def __init__(
        self,
        url: str,
        fetch: Fetch,
        *,
        clock: Clock | None = None,
        min_interval_s: float = 10.0,
        max_age_s: float = 300.0,
        max_stale_s: float = 3600.0,
        timeout_s: float = 2.0,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._min_interval_s = min_interval_s
        self._max_age_s = max_age_s
        self._max_stale_s = max_stale_s
        self._timeout_s = timeout_s
        self._keys: Keys = {}
        self._loaded_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._lock = asyncio.Lock()
        self.generation = 0

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        """As JwksSource.key; waits at most `timeout_s` for the issuer."""
        found = self._keys.get(kid)
        if found is not None and self._age_s() < self._max_age_s:
            return found
        await self._refresh()
        if self._age_s() >= self._max_stale_s:
            raise Unavailable("The issuer's keys cannot be read.", code="keys_unavailable")
        return self._keys.get(kid)

    def _age_s(self) -> float:
        if self._loaded_at_s is None:
            return float("inf")
        return self._clock.monotonic_s() - self._loaded_at_s

    def _pause_s(self) -> float:
        # A service that has no keys at all can let nobody in: it asks again sooner.
        return (
            self._min_interval_s if self._keys else min(_FIRST_KEYS_PAUSE_S, self._min_interval_s)
        )

    async def _refresh(self) -> None:
        asked_at_s = self._clock.monotonic_s()
        async with self._lock:
            tried_at_s = self._tried_at_s
            if tried_at_s is not None and (
                tried_at_s >= asked_at_s or self._clock.monotonic_s() - tried_at_s < self._pause_s()
            ):
                return
            self._tried_at_s = self._clock.monotonic_s()
            keys = await self._load()
            if keys is None:
                return
            self._loaded_at_s = self._clock.monotonic_s()
            if keys != self._keys:
                self.generation += 1
            self._keys = keys

    async def _load(self) -> Keys | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._fetch(self._url)
            document: object = json.loads(body)
        except (ScalelabError, TimeoutError, ValueError, RecursionError):
            return None
        if not isinstance(document, dict):
            return None
        return read_keys(cast("dict[str, object]", document)) or None


def read_keys(document: Mapping[str, object]) -> Keys:
    """The usable ES256 verification keys of a JWKS document, by kid; the rest is left out."""
    listed = document.get("keys")
    keys: Keys = {}
    for entry in cast("list[object]", listed) if isinstance(listed, list) else []:
        if isinstance(entry, dict):
            jwk = cast("dict[str, object]", entry)
            kid, key = jwk.get("kid"), _read_key(jwk)
            if isinstance(kid, str) and key is not None:
                keys[kid] = key
    return keys


def _read_key(jwk: Mapping[str, object]) -> EllipticCurvePublicKey | None:
    if (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
        return None
    if jwk.get("alg", "ES256") != "ES256" or jwk.get("use", "sig") != "sig":
        return None
    x, y = jwk.get("x"), jwk.get("y")
    if not isinstance(x, str) or not isinstance(y, str):
        return None
    try:
        numbers = EllipticCurvePublicNumbers(
            int.from_bytes(decode_base64url(x), "big"),
            int.from_bytes(decode_base64url(y), "big"),
            SECP256R1(),
        )
        return numbers.public_key()
    except (MalformedError, ValueError):
        return None
