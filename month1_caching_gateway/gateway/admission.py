"""May this request pass: who is it, does it bring its key, has it any allowance left.

The order is from cheap to dear, and from public to private: the idempotency key's presence is told
only to callers who are known. The gateway keeps no record of keys; the service that has the effect
does, in the same transaction.

Theory of operation
    Most requests need no wait: the token was verified a moment ago, an API key is one hash, a limit
    in memory is arithmetic. `try_now` decides those on the spot. Where only a limit in Redis is
    left to hear, it gives the future of the batch that carries the question, and no task is made.
    Only a token never seen, or a set of keys to be read, needs `check`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from month1_caching_gateway.gateway.allowance import (
    ADMITTED_NOBODY,
    Admitted,
    Waiting,
    first_hold,
    first_take,
)
from month1_caching_gateway.gateway.api_keys import KeyRing
from month1_caching_gateway.gateway.heads import RequestHead
from month1_caching_gateway.gateway.identity import NOBODY, Identities, Identity, Verifier
from month1_caching_gateway.gateway.problems import refused_by
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.ratelimit import (
    Answer,
    Caller,
    Decision,
    LeaseLimiter,
    LeaseRule,
    Limiters,
    Policy,
    Rule,
    check_for,
    lease_for,
)
from scalelab.clock import Clock, SystemClock
from scalelab.errors import InvalidInput, ScalelabError
from scalelab.web.idempotency import parse_key

ANONYMOUS = ADMITTED_NOBODY

Rates = Mapping[str, Policy | Rule | LeaseRule]
"""What routes name as their rate. A bare policy is a token bucket of whoever the caller is."""


class RateLimiter(Protocol):
    """Counts allowances: month1_caching_gateway.ratelimit.Limiter."""

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Answer:
        """Take `cost` tokens of `key`, or refuse; a future goes to `settle` when it is done."""
        ...

    def settle(
        self, answer: asyncio.Future[Decision], key: str, policy: Policy, *, cost: float = 1.0
    ) -> Decision:
        """The decision of a future that is done."""
        ...


def no_keys() -> KeyRing:
    """The key ring of a gateway without API keys."""
    return _EMPTY


_EMPTY = KeyRing()


class Admission:
    """The checks of every route. rates: every policy that a route names.

    limiter: one for all rules, or `Limiters` where rules choose algorithm and failure policy.
    keys: the API keys of this instant. Holds no state of its own, so a reload makes a new one.
    Raises InvalidInput for a rule that this limiter cannot count.
    """

    def __init__(
        self,
        verifier: Verifier,
        limiter: RateLimiter | Limiters,
        rates: Rates,
        *,
        keys: Callable[[], KeyRing] = no_keys,
        clock: Clock | None = None,
    ) -> None:
        self._identities = Identities(verifier, keys, (clock or SystemClock()).now)
        self._rules: dict[str, tuple[Rule, RateLimiter]] = {}
        self._leases: dict[str, tuple[LeaseRule, LeaseLimiter]] = {}
        for name, given in rates.items():
            rule = Rule(name, given) if isinstance(given, Policy) else given
            if isinstance(rule, LeaseRule):
                self._leases[name] = (rule, _all(limiter, rule).leases_of(rule))
            elif isinstance(limiter, Limiters):
                self._rules[name] = (rule, limiter.of(rule))
            else:
                _check_default(rule)
                self._rules[name] = (rule, limiter)

    def try_now(self, route: Route, head: RequestHead, client_ip: str) -> Admitted | Waiting | None:
        """All checks, if none of them has to wait; None: ask `check`. Raises Refused."""
        try:
            identity = self._identities.now(route, head)
            if identity is None:
                return None
            if route.idempotency_key_required:
                check_key(route, head)
            if route.rate is None:
                return ADMITTED_NOBODY if identity is NOBODY else _of(identity)
            return self._take(route, route.rate, identity, client_ip)
        except ScalelabError as error:
            raise refused_by(error) from error

    async def check(self, route: Route, head: RequestHead, client_ip: str) -> Admitted:
        """Raises Refused: 401, 403, 400 (key), 429, or 503 when a check cannot be made."""
        try:
            identity = await self._identities.find(route, head)
            check_key(route, head)
            if route.rate is None:
                return _of(identity)
            taken = self._take(route, route.rate, identity, client_ip)
        except ScalelabError as error:
            raise refused_by(error) from error
        return taken if isinstance(taken, Admitted) else await self.wait(taken)

    @staticmethod
    async def wait(waiting: Waiting) -> Admitted:
        """Hear what the limiter's store says, at most until its deadline. Raises Refused."""
        try:
            await asyncio.wait([waiting.answer])
        except asyncio.CancelledError:
            waiting.leave()
            raise
        return waiting.settle()

    def _take(
        self, route: Route, rate: str, identity: Identity, client_ip: str
    ) -> Admitted | Waiting:
        caller = Caller(client_ip, identity.subject, identity.key_id, identity.plan)
        leased = self._leases.get(rate)
        if leased is not None:
            rule, leases = leased
            slot = lease_for(rule, caller)
            return first_hold(_of(identity), leases.hold(slot.key, slot.policy), slot.policy)
        rule, limiter = self._rules[rate]
        return first_take(_of(identity), limiter, check_for(rule, caller, route.cost))


def check_costs(routes: Iterable[Route], rates: Rates) -> None:
    """Raise InvalidInput unless every route names a known rate, and each plan can pay its cost."""
    for route in routes:
        if route.rate is None:
            continue
        rule = rates.get(route.rate)
        if rule is None:
            raise InvalidInput(
                f"route {route.name} names no known rate policy: {route.rate!r}", field="rate"
            )
        if isinstance(rule, LeaseRule):
            continue
        try:
            (Rule(route.rate, rule) if isinstance(rule, Policy) else rule).check_cost(route.cost)
        except InvalidInput as error:
            raise InvalidInput(
                f"route {route.name} costs more than its policy holds: {error}", field="cost"
            ) from error


def check_key(route: Route, head: RequestHead) -> None:
    """Raise InvalidInput unless the route demands no key or the request brings a good one."""
    if route.idempotency_key_required:
        raw = head.named.get(b"idempotency-key")
        parse_key(None if raw is None else raw.decode("latin-1"))


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


def _of(identity: Identity) -> Admitted:
    return Admitted(identity.subject, (), identity.key_id)


def _all(limiter: RateLimiter | Limiters, rule: LeaseRule) -> Limiters:
    if not isinstance(limiter, Limiters):
        raise InvalidInput(f"rule {rule.name} limits concurrency; this limiter counts rates only")
    return limiter


def _check_default(rule: Rule) -> None:
    plain = Rule(rule.name, rule.default)
    if (rule.algorithm, rule.on_failure) != (plain.algorithm, plain.on_failure):
        raise InvalidInput(f"rule {rule.name} chooses its algorithm; this gateway has one limiter")
