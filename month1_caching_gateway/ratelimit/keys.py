"""Whom a request is counted for, and under which policy: request facts in, key and policy out.

Theory of operation
    A `Rule` says by what a route group is limited (API key, user, or address), what each plan may
    do and what each route costs. `check_for` turns a caller and a route into one `RateCheck`. A
    caller who lacks the rule's identity is counted by address: leaving the token out must not be
    a way around the limit.

Invariants (tests cite them)
    I1  All addresses of one IPv6 /64 have one key: a customer is given at least that much, so a
        hop inside it escapes nothing.
    I2  An IPv4 address has one key, in whichever spelling it arrives (plain or IPv4-mapped).
    I3  Identities of different kinds never share a key, whatever a user may be called.
    I4  No key contains an API key: keys are seen in logs and in the store.

Absent on purpose: several rules at once, and learning the plan (the token or a directory says it).
Source: RFC 4291 sections 2.5.1 and 2.5.5.2; RFC 6177 on what a site is given.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from month1_caching_gateway.ratelimit.token_bucket import Policy, check_cost
from scalelab.errors import InvalidInput


class CountedBy(Enum):
    """What identifies the caller of a rule."""

    API_KEY = "key"
    USER = "user"
    ADDRESS = "ip"


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a request. address: of the client, v4 or v6. plan: what was bought."""

    address: str
    user: str | None = None
    api_key: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """name: part of every key, without colons. default: of callers without a known plan.

    costs: by route name, 1 if absent. Raises InvalidInput if a plan could never admit a route.
    """

    name: str
    by: CountedBy
    default: Policy
    plans: Mapping[str, Policy]
    costs: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name:
            raise InvalidInput(f"rule name {self.name!r} must have no colon", field="name")
        for policy in (self.default, *self.plans.values()):
            for cost in self.costs.values():
                check_cost(cost, policy)


@dataclass(frozen=True, slots=True)
class RateCheck:
    """What to ask the limiter: `limiter.check(key, policy, cost=cost)`."""

    key: str
    policy: Policy
    cost: float


def check_for(rule: Rule, caller: Caller, route: str) -> RateCheck:
    """The one check of this request. Raises InvalidInput if the address is none.

    A caller who is counted by address for want of an identity gets the default policy: a plan
    belongs to an identity.
    """
    cost = rule.costs.get(route, 1.0)
    identity = _identity(rule.by, caller)
    if identity is None:
        key = f"{rule.name}:{CountedBy.ADDRESS.value}:{address_block(caller.address)}"
        return RateCheck(key, rule.default, cost)
    policy = rule.plans.get(caller.plan, rule.default) if caller.plan else rule.default
    return RateCheck(f"{rule.name}:{rule.by.value}:{identity}", policy, cost)


def _identity(by: CountedBy, caller: Caller) -> str | None:
    if by is CountedBy.API_KEY and caller.api_key:
        return hashlib.sha256(caller.api_key.encode()).hexdigest()[:32]
    if by is CountedBy.USER and caller.user:
        return caller.user
    return None


def address_block(address: str) -> str:
    """An IPv4 address as it is, an IPv6 address as its /64, a mapped one as the IPv4 it stands for.

    A zone (`%eth0`) is left out. Raises InvalidInput if the text is no address.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError as error:
        raise InvalidInput(f"{address!r} is no IP address", field="address") from error
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))
