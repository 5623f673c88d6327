"""May this request pass: who is it, does it bring its key, has it any allowance left.

The order is from cheap to dear, and from public to private: the idempotency key's presence is told
only to callers who are known. The gateway keeps no record of keys; the service that has the effect
does, in the same transaction.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from month1_caching_gateway.gateway.heads import RequestHead
from month1_caching_gateway.gateway.problems import Header, Refused, refused_by, whole_seconds
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.ratelimit import Decision, Policy, full_after_s
from scalelab.errors import Forbidden, ScalelabError, Unauthenticated
from scalelab.security import Principal
from scalelab.web.idempotency import parse_key


class Verifier(Protocol):
    """Verifies access tokens: scalelab.security.TokenVerifier."""

    async def verify(self, token: str | None) -> Principal:
        """Raises Unauthenticated, or Unavailable when no key can be read."""
        ...


class RateLimiter(Protocol):
    """Counts allowances: month1_caching_gateway.ratelimit.Limiter."""

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """Take `cost` tokens of `key`, or refuse."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """subject: of the verified token, "" for an anonymous caller. headers: for the answer."""

    subject: str
    headers: tuple[Header, ...]


ANONYMOUS = Admitted("", ())


class Admission:
    """The checks of every route. rates: every policy that a route names."""

    def __init__(
        self, verifier: Verifier, limiter: RateLimiter, rates: Mapping[str, Policy]
    ) -> None:
        self._verifier = verifier
        self._limiter = limiter
        self._rates = rates

    def try_now(self, route: Route, head: RequestHead, client_ip: str) -> Admitted | None:
        """All checks, if none of them has to wait; None: ask `check`. Raises Refused.

        client_ip: whose allowance a stranger's request takes.
        """
        if route.auth != "none" or route.rate is not None:
            return None
        if not route.idempotency_key_required:
            return ANONYMOUS
        try:
            check_key(route, head)
        except ScalelabError as error:
            raise refused_by(error) from error
        return ANONYMOUS

    async def check(self, route: Route, head: RequestHead, client_ip: str) -> Admitted:
        """Raises Refused: 401, 403, 400 (key), 429, or 503 when a check cannot be made."""
        try:
            subject = await self._subject(route, head)
            check_key(route, head)
        except ScalelabError as error:
            raise refused_by(error) from error
        if route.rate is None:
            return Admitted(subject, ())
        return Admitted(subject, await self._take(route, subject or client_key(client_ip)))

    async def _subject(self, route: Route, head: RequestHead) -> str:
        if route.auth == "none":
            return ""
        principal = await self._verifier.verify(bearer(head.named.get(b"authorization")))
        if route.scope is not None and route.scope not in principal.scopes:
            raise Forbidden("The token does not allow this.", code="scope_missing")
        return principal.subject

    async def _take(self, route: Route, caller: str) -> tuple[Header, ...]:
        name = route.rate or ""
        policy = self._rates[name]
        try:
            decision = await self._limiter.check(f"{name}:{caller}", policy, cost=route.cost)
        except ScalelabError as error:
            raise refused_by(error) from error
        headers: tuple[Header, ...] = (
            (b"RateLimit-Limit", b"%d" % policy.capacity),
            (b"RateLimit-Remaining", b"%d" % decision.remaining),
            (b"RateLimit-Reset", b"%d" % whole_seconds(full_after_s(decision.remaining, policy))),
        )
        if decision.admitted:
            return headers
        raise Refused(
            429,
            "rate_limited",
            "this caller's allowance is used up for now",
            headers=headers,
            retry_after_s=decision.retry_after_s,
        )


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


def check_key(route: Route, head: RequestHead) -> None:
    """Raise InvalidInput unless the route demands no key or the request brings a good one."""
    if route.idempotency_key_required:
        raw = head.named.get(b"idempotency-key")
        parse_key(None if raw is None else raw.decode("latin-1"))


def client_key(client_ip: str) -> str:
    """Who an anonymous caller is. An IPv6 customer has a /64 at least: its addresses are one."""
    if ":" not in client_ip:
        return client_ip
    try:
        address = ipaddress.IPv6Address(client_ip.partition("%")[0])
    except ValueError:
        return client_ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def client_ip(peer: str, forwarded_for: bytes, trusted: frozenset[str]) -> str:
    """The caller's address: the peer, or what trusted hops say, read from the nearest one.

    forwarded_for: all X-Forwarded-For values joined by commas. Values that are no addresses end
    the search: what stands left of them was written by a stranger.
    """
    if peer not in trusted:
        return peer
    caller = peer
    for part in reversed(forwarded_for.decode("latin-1").split(",")):
        try:
            caller = str(ipaddress.ip_address(part.strip()))
        except ValueError:
            return caller
        if caller not in trusted:
            return caller
    return caller
