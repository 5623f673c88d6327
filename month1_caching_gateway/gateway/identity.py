"""Who asks: a user by a token, a program by an API key, or nobody.

Theory of operation
    A route says which of the two it takes. On a route that takes either, a request with both is
    refused: which of them counts would be a matter of reading order, and readers differ. Tokens are
    the verifier's business; one it has verified a moment ago is recalled without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from month1_caching_gateway.gateway.api_keys import HEADER, ApiKey, KeyRing, in_query
from month1_caching_gateway.gateway.heads import RequestHead
from month1_caching_gateway.gateway.routes import Route
from scalelab.errors import Forbidden, Unauthenticated
from scalelab.security import Principal

_PLAN_SCOPE = "plan:"


class Verifier(Protocol):
    """Verifies access tokens: scalelab.security.TokenVerifier."""

    async def verify(self, token: str | None) -> Principal:
        """Raises Unauthenticated, or Unavailable when no key can be read."""
        ...


@runtime_checkable
class Recalling(Protocol):
    """A verifier that remembers."""

    def recall(self, token: str) -> Principal | None:
        """The principal of a token that was verified a moment ago; never waits, never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """subject: of the token, or the key's owner; "" for nobody. key_id: "" without an API key."""

    subject: str = ""
    key_id: str = ""
    plan: str | None = None


NOBODY = Identity()


class Identities:
    """Finds out who asks. keys: read at every request, so that it may be replaced meanwhile."""

    def __init__(
        self, verifier: Verifier, keys: Callable[[], KeyRing], now: Callable[[], datetime]
    ) -> None:
        self._verifier = verifier
        self._recall = verifier.recall if isinstance(verifier, Recalling) else _no_memory
        self._keys = keys
        self._now = now

    def now(self, route: Route, head: RequestHead) -> Identity | None:
        """The caller, if that can be said at once; None means: ask `find`.

        Raises Unauthenticated and Forbidden.
        """
        if route.auth == "none":
            return NOBODY
        if self._by_key(route, head):
            return self._of_key(route, head)
        token = bearer(head.named.get(b"authorization"))
        principal = self._recall(token) if token else None
        return None if principal is None else _of_token(route, principal)

    async def find(self, route: Route, head: RequestHead) -> Identity:
        """The caller; waits for the verifier. Raises Unauthenticated, Forbidden, Unavailable."""
        found = self.now(route, head)
        if found is not None:
            return found
        token = bearer(head.named.get(b"authorization"))
        return _of_token(route, await self._verifier.verify(token))

    @staticmethod
    def _by_key(route: Route, head: RequestHead) -> bool:
        """Whether this request is to be judged by its API key."""
        if route.auth != "user" and in_query(head.target.partition(b"?")[2]):
            raise Unauthenticated("An API key does not belong in a URL.", code="key_in_query")
        if route.auth == "user":
            return False
        if route.auth == "key" or HEADER not in head.named:
            return route.auth == "key"
        if b"authorization" in head.named:
            raise Unauthenticated("Send a token or an API key, not both.", code="two_credentials")
        return True

    def _of_key(self, route: Route, head: RequestHead) -> Identity:
        raw = head.named.get(HEADER)
        text = None if raw is None else raw.decode("latin-1")
        key = self._keys().verify(text, now=self._now())
        _check_scope(route, key.scopes)
        return _of(key)


def _of(key: ApiKey) -> Identity:
    return Identity(key.owner, key.key_id, key.plan)


def _of_token(route: Route, principal: Principal) -> Identity:
    _check_scope(route, principal.scopes)
    for scope in principal.scopes:
        if scope.startswith(_PLAN_SCOPE):
            return Identity(principal.subject, "", scope[len(_PLAN_SCOPE) :])
    return Identity(principal.subject)


def _check_scope(route: Route, scopes: frozenset[str]) -> None:
    if route.scope is not None and route.scope not in scopes:
        raise Forbidden("The credential does not allow this.", code="scope_missing")


def _no_memory(_token: str) -> Principal | None:
    return None


def bearer(authorization: bytes | None) -> str | None:
    """The token of an Authorization header; None if there is none.

    Raises Unauthenticated (`token_malformed`) for another scheme or for more than one token.
    """
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token or b" " in token:
        raise Unauthenticated("A Bearer token is required.", code="token_malformed")
    return token.decode("latin-1")
