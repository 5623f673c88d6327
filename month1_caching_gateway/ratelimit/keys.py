"""Whom a request is counted for, and under which policy: request facts in, key and policy out.

Theory of operation
    A rule says by what its routes are limited (API key, user, address, or whatever is known best),
    and what each plan may do. `check_for` turns a caller into one `RateCheck`, `lease_for` into one
    `LeaseCheck`. A caller who lacks the rule's identity is counted by address: leaving the token
    out must not be a way around the limit.

Invariants (tests cite them)
    I1  All addresses of one IPv6 /64 have one key: a customer is given at least that much, so a
        hop inside it escapes nothing.
    I2  An IPv4 address has one key, in whichever spelling it arrives (plain or IPv4-mapped).
    I3  Identities of different kinds never share a key, whatever a user may be called.
    I4  No key contains a secret: an API key is counted by its public id.

Absent on purpose: several rules at once, and learning the plan (the API key or the token says it).
Source: RFC 4291 sections 2.5.1 and 2.5.5.2; RFC 6177 on what a site is given.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from month1_caching_gateway.ratelimit.algorithm import TOKEN_BUCKET, RateAlgorithm
from month1_caching_gateway.ratelimit.concurrency import LeasePolicy
from month1_caching_gateway.ratelimit.failure import FailurePolicy
from month1_caching_gateway.ratelimit.token_bucket import Policy, check_cost
from scalelab.errors import InvalidInput

_KNOWN_ADDRESSES = 4096


class CountedBy(Enum):
    """What identifies the caller of a rule. CALLER: the API key, the user, or the address."""

    CALLER = "caller"
    API_KEY = "key"
    USER = "user"
    ADDRESS = "ip"


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a request, all of it verified. address: of the client, v4 or v6.

    key_id: the public id of an API key. plan: what was bought.
    """

    address: str
    user: str | None = None
    key_id: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rate. name: part of every key, without colons. default: of callers without a known plan.

    on_failure: what is answered while the store is gone.
    """

    name: str
    default: Policy
    by: CountedBy = CountedBy.CALLER
    plans: Mapping[str, Policy] = field(default_factory=dict[str, Policy])
    algorithm: RateAlgorithm = TOKEN_BUCKET
    on_failure: FailurePolicy = FailurePolicy.LOCAL_SHARE

    def __post_init__(self) -> None:
        _check_name(self.name)

    def check_cost(self, cost: float) -> None:
        """Raise InvalidInput if a plan could never admit this cost."""
        for policy in (self.default, *self.plans.values()):
            check_cost(cost, policy)


@dataclass(frozen=True, slots=True)
class LeaseRule:
    """A limit on what is under way at one time; the fields mean what they mean in `Rule`."""

    name: str
    default: LeasePolicy
    by: CountedBy = CountedBy.CALLER
    plans: Mapping[str, LeasePolicy] = field(default_factory=dict[str, LeasePolicy])
    on_failure: FailurePolicy = FailurePolicy.LOCAL_SHARE

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, slots=True)
class RateCheck:
    """What to ask the limiter: `limiter.check(key, policy, cost=cost)`."""

    key: str
    policy: Policy
    cost: float


@dataclass(frozen=True, slots=True)
class LeaseCheck:
    """What to hold: a slot of `key` under `policy`."""

    key: str
    policy: LeasePolicy


def check_for(rule: Rule, caller: Caller, cost: float = 1.0) -> RateCheck:
    """The one check of this request. Raises InvalidInput if the address is none.

    A caller who is counted by address for want of an identity gets the default policy: a plan
    belongs to an identity.
    """
    key, known = _key(rule.name, rule.by, caller)
    policy = rule.plans.get(caller.plan, rule.default) if known and caller.plan else rule.default
    return RateCheck(key, policy, cost)


def lease_for(rule: LeaseRule, caller: Caller) -> LeaseCheck:
    """The one slot this request needs; as `check_for`."""
    key, known = _key(rule.name, rule.by, caller)
    policy = rule.plans.get(caller.plan, rule.default) if known and caller.plan else rule.default
    return LeaseCheck(key, policy)


def _key(name: str, by: CountedBy, caller: Caller) -> tuple[str, bool]:
    """The key, and whether it is an identity's."""
    if caller.key_id and by in (CountedBy.CALLER, CountedBy.API_KEY):
        return f"{name}:key:{caller.key_id}", True
    if caller.user and by in (CountedBy.CALLER, CountedBy.USER):
        return f"{name}:user:{caller.user}", True
    return f"{name}:ip:{address_block(caller.address)}", False


@lru_cache(maxsize=_KNOWN_ADDRESSES)
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


def _check_name(name: str) -> None:
    if not name or ":" in name:
        raise InvalidInput(f"rule name {name!r} must have no colon", field="name")
