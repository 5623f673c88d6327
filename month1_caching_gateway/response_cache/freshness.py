"""How long an answer stays fresh, how old it is, and what may be done with it when it is stale.

Theory of operation
    An answer says how long it may be used (its lifetime) and how old it is already (Age, Date).
    From the instant it was received its age grows with our own monotonic clock. Fresh means age <
    lifetime. A stale answer may still be given while it is being revalidated, or because nobody
    could revalidate it, where the answer or the route allows that and `must-revalidate` does not
    forbid it.

Invariants (tests cite them)
    F1  Nothing is fresh for longer than s-maxage, else max-age, else Expires - Date, else the
        route's default says.
    F2  Time spent elsewhere counts: an answer is never younger than its Age says, nor than Date.
    F3  `no-cache` is never fresh. `must-revalidate`, `proxy-revalidate` and `s-maxage` are never
        served stale, unless the answer itself names a stale-... window: it was its author's word.

Absent on purpose: heuristic freshness (RFC 9111 section 4.2.2): what says nothing is not fresh.
Source: RFC 9111 sections 4.2 and 5.2; RFC 5861; differs in: as said above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from month1_caching_gateway.response_cache.directives import (
    MAX_DELTA_S,
    Directives,
    read_date,
)
from month1_caching_gateway.response_cache.policy import CachePolicy


class Use(Enum):
    """What a stored answer is good for now."""

    FRESH = "fresh"
    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    VALIDATE_FIRST = "validate-first"


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of one stored answer. Instants on the monotonic clock; durations in seconds.

    age_at_receipt_s: corrected initial age. received_at_s: when its head came.
    """

    received_at_s: float
    age_at_receipt_s: float
    lifetime_s: float
    stale_while_revalidate_s: float
    stale_if_error_s: float

    def age_s(self, now_s: float) -> float:
        """Current age (F2)."""
        return self.age_at_receipt_s + max(0.0, now_s - self.received_at_s)

    def use(self, now_s: float) -> Use:
        """What the answer is good for at `now_s`."""
        overdue_s = self.age_s(now_s) - self.lifetime_s
        if overdue_s < 0.0:
            return Use.FRESH
        if overdue_s < self.stale_while_revalidate_s:
            return Use.STALE_WHILE_REVALIDATE
        return Use.VALIDATE_FIRST

    def may_stand_in(self, now_s: float) -> bool:
        """Whether the answer may be given because the service failed."""
        return self.age_s(now_s) - self.lifetime_s < self.stale_if_error_s


def freshness_of(
    headers: Mapping[bytes, bytes],
    directives: Directives,
    policy: CachePolicy,
    *,
    asked_at_s: float,
    received_at_s: float,
    now: datetime,
) -> Freshness:
    """The freshness of an answer whose head has come. headers: lower-case names, one value each.

    asked_at_s, received_at_s: monotonic. now: the wall clock's instant of the receipt.
    """
    date = read_date(headers.get(b"date"))
    apparent_s = 0.0 if date is None else max(0.0, (now - date).total_seconds())
    told_s = _seconds(headers.get(b"age")) + (received_at_s - asked_at_s)
    while_s, error_s = _stale_windows(directives, policy)
    return Freshness(
        received_at_s=received_at_s,
        age_at_receipt_s=max(apparent_s, told_s),
        lifetime_s=_lifetime_s(headers, directives, policy, date or now),
        stale_while_revalidate_s=while_s,
        stale_if_error_s=error_s,
    )


def _lifetime_s(
    headers: Mapping[bytes, bytes], directives: Directives, policy: CachePolicy, date: datetime
) -> float:
    if directives.no_cache:
        return 0.0
    if directives.s_maxage_s is not None:
        return float(directives.s_maxage_s)
    if directives.max_age_s is not None:
        return float(directives.max_age_s)
    if b"expires" in headers:
        expires = read_date(headers[b"expires"])
        return 0.0 if expires is None else max(0.0, (expires - date).total_seconds())
    return policy.default_ttl_s


def _stale_windows(directives: Directives, policy: CachePolicy) -> tuple[float, float]:
    """Seconds after the lifetime: while revalidating, and on error (F3)."""
    if directives.no_cache:
        return 0.0, 0.0
    strict = directives.must_revalidate
    while_s, error_s = directives.stale_while_revalidate_s, directives.stale_if_error_s
    if while_s is None:
        while_s = 0.0 if strict else policy.stale_while_revalidate_s
    if error_s is None:
        error_s = 0.0 if strict else policy.stale_if_error_s
    return float(while_s), float(error_s)


def _seconds(value: bytes | None) -> float:
    """Age as sent; nothing where it is no number, the largest where it is too large."""
    if value is None:
        return 0.0
    digits = value.partition(b",")[0].strip()
    if not digits.isdigit():
        return 0.0
    return float(MAX_DELTA_S if len(digits) > 10 else min(MAX_DELTA_S, int(digits)))
