"""A service's own access token, by OAuth client credentials: cached, renewed early, one at a time.

Theory of operation
    A token is used until `renew_before` of its lifetime is left; then the first caller asks for
    a new one and the others wait for that answer. If the issuer is away, the old token serves
    until it expires. Source: RFC 6749 section 4.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from scalelab.clock import Clock
from scalelab.errors import ScalelabError, Unavailable
from scalelab.security.aiohttp_fetch import post_form
from scalelab.security.compact import MalformedError, strict_object

PostForm = Callable[[str, Mapping[str, str], tuple[str, str]], Awaitable[bytes]]
"""Takes URL, form fields and (client id, secret) for Basic; returns the body of a 200 answer."""

RENEW_AT_SHARE = 0.8
"""Share of the lifetime after which a new token is asked for."""


@dataclass(frozen=True, slots=True)
class _Grant:
    token: str
    renew_at_s: float
    expires_at_s: float


class ServiceTokens:
    """Tokens for calls between services. `bearer()` is cheap: a comparison, mostly."""

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        scope: str,
        clock: Clock,
        *,
        post: PostForm = post_form,
        timeout_s: float = 3.0,
        retry_interval_s: float = 1.0,
    ) -> None:
        self._token_url = token_url
        self._client = (client_id, client_secret)
        self._scope = scope
        self._clock = clock
        self._post = post
        self._timeout_s = timeout_s
        self._retry_interval_s = retry_interval_s
        self._grant: _Grant | None = None
        self._lock = asyncio.Lock()

    async def bearer(self) -> str:
        """The access token itself, without the word Bearer.

        Raises Unavailable if there is none and the issuer does not answer in time, and
        Unauthenticated (code client_refused) if it does not know this client.
        """
        grant = self._grant
        if grant is not None and self._clock.monotonic_s() < grant.renew_at_s:
            return grant.token
        async with self._lock:
            grant = self._grant
            if grant is not None and self._clock.monotonic_s() < grant.renew_at_s:
                return grant.token
            self._grant = grant = await self._renew(grant)
            return grant.token

    async def _renew(self, old: _Grant | None) -> _Grant:
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._post(
                    self._token_url,
                    {"grant_type": "client_credentials", "scope": self._scope},
                    self._client,
                )
            return self._read(body)
        except (ScalelabError, TimeoutError) as error:
            now_s = self._clock.monotonic_s()
            if old is not None and now_s < old.expires_at_s:
                return _Grant(old.token, now_s + self._retry_interval_s, old.expires_at_s)
            if isinstance(error, ScalelabError):
                raise
            raise Unavailable("The token endpoint did not answer in time.") from error

    def _read(self, body: bytes) -> _Grant:
        try:
            answer = strict_object(body)
        except MalformedError as error:
            raise Unavailable("The token endpoint's answer cannot be read.") from error
        token, lifetime_s = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not isinstance(lifetime_s, int | float):
            raise Unavailable("The token endpoint's answer lacks a token or its lifetime.")
        now_s = self._clock.monotonic_s()
        return _Grant(token, now_s + lifetime_s * RENEW_AT_SHARE, now_s + lifetime_s)
