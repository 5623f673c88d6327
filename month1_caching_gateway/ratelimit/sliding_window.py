"""Sliding window counter: two aligned counters stand for a window that moves with the clock.

Theory of operation
    As fixed_window.py, but the count of the previous window is remembered and weighs as much as
    of it still lies inside the trailing window: estimate = previous * (1 - f) + current, where f
    is the part of the current window that has passed. A request of cost c is admitted when
    estimate + c <= capacity. Three numbers a key, where a log would keep every arrival.

Invariants (tests cite them)
    I1  0 <= previous, current <= capacity.
    I2  In any window of t seconds at most capacity + rate_per_s * t is admitted, as by a token
        bucket: after a burst at the end of a window, the next one opens only as f grows.
    I3  The error bound. Let `true` be what was admitted in the trailing window. The estimate
        spreads `previous` evenly, wherever in its window it fell, so
        -previous * f <= estimate - true <= previous * (1 - f).
        It may admit up to previous * f too much, or refuse while previous * (1 - f) is free.
    I4  A refused request changes nothing at all, so a flood of refusals is never written.

Absent on purpose: the exact log of arrivals, whose memory grows with the capacity.
Source: the counter described in Cloudflare's 2017 article "How we built rate limiting capable of
scaling to millions of domains"; differs in: refused requests are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from month1_caching_gateway.ratelimit.fixed_window import (
    SHORTEST_WAIT_S,
    window_begin_s,
    window_s,
)
from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy, check_cost


@dataclass(frozen=True, slots=True)
class Pair:
    """State of one key: the counts of the window that began at `began_s` and the one before."""

    current: float
    previous: float
    began_s: float


def empty_pair(policy: Policy, *, now_s: float) -> Pair:
    """The counters of a key that was never seen."""
    return Pair(0.0, 0.0, window_begin_s(policy, now_s))


def turn(pair: Pair, policy: Policy, *, now_s: float) -> Pair:
    """The counters as of `now_s`. A clock that steps back changes nothing."""
    began_s = window_begin_s(policy, now_s)
    behind_s = began_s - pair.began_s
    if behind_s <= 0.0:
        return pair
    # The begins are products of doubles: one window apart is "about one", never exactly one.
    previous = pair.current if behind_s < 1.5 * window_s(policy) else 0.0
    return Pair(0.0, previous, began_s)


def passed(pair: Pair, policy: Policy, *, now_s: float) -> float:
    """f: the part of the current window that has passed, 0..1."""
    return min(1.0, max(0.0, now_s - pair.began_s) / window_s(policy))


def pair_decide(pair: Pair, policy: Policy, *, cost: float, now_s: float) -> tuple[Pair, Decision]:
    """Turn the counters to `now_s`, then admit or refuse `cost` by the estimate.

    Raises InvalidInput unless 0 < cost <= capacity. retry_after_s is when the estimate leaves
    room, if nobody else is admitted meanwhile.
    """
    check_cost(cost, policy)
    turned = turn(pair, policy, now_s=now_s)
    weighed = turned.previous * (1.0 - passed(turned, policy, now_s=now_s)) + turned.current
    if weighed + cost > policy.capacity:
        wait_s = max(SHORTEST_WAIT_S, _room_at_s(turned, policy, cost) - now_s)
        return pair, Decision(False, max(0.0, policy.capacity - weighed), wait_s)
    admitted = Pair(turned.current + cost, turned.previous, turned.began_s)
    return admitted, Decision(True, max(0.0, policy.capacity - weighed - cost), 0.0)


def _room_at_s(pair: Pair, policy: Policy, cost: float) -> float:
    """When the estimate will leave room for `cost`: in this window, or in the next."""
    length_s = window_s(policy)
    free = policy.capacity - cost
    if pair.current <= free and pair.previous > 0.0:
        return pair.began_s + (1.0 - (free - pair.current) / pair.previous) * length_s
    if pair.current <= 0.0:
        return pair.began_s + length_s
    return pair.began_s + length_s + max(0.0, 1.0 - free / pair.current) * length_s
