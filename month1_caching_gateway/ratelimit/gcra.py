"""GCRA: the leaky bucket as a meter. Each request pours in its cost; the bucket leaks steadily.

Theory of operation
    `level` is what has been poured in and has not leaked out yet; it falls by `rate_per_s`. A
    request of cost c conforms when level + c <= capacity. The standard gives two equal forms of
    the rule. The better known one keeps a single instant, the theoretical arrival time; here it
    is `theoretical_arrival_s`. We keep the other form, level and instant, because a double steps by
    0.24 µs at today's Unix time, and a burst of small costs would add up those steps.

Invariants (tests cite them)
    I1  0 <= level <= capacity.
    I2  In any window of t seconds at most capacity + rate_per_s * t is admitted.
    I3  A refused request changes nothing at all, so a flood of refusals is never written.
    I4  It admits what a token bucket of the same policy admits: tokens = capacity - level.

Absent on purpose: the queue of a leaky bucket that delays instead of refusing.
Source: ITU-T Recommendation I.371, annex A (continuous-state leaky bucket); differs in: the level
counts requests, not seconds, and a cost may differ from 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy, check_cost


@dataclass(frozen=True, slots=True)
class Meter:
    """State of one key. level: requests, as of conformed_at_s (the store's clock)."""

    level: float
    conformed_at_s: float


def theoretical_arrival_s(meter: Meter, policy: Policy) -> float:
    """When the bucket will have leaked dry: the instant the virtual-scheduling form would keep."""
    return meter.conformed_at_s + meter.level / policy.rate_per_s


def dry(*, now_s: float) -> Meter:
    """The meter of a key that was never seen."""
    return Meter(0.0, now_s)


def meter_decide(
    meter: Meter, policy: Policy, *, cost: float, now_s: float
) -> tuple[Meter, Decision]:
    """Let the bucket leak until `now_s`, then pour in `cost`, or refuse.

    Raises InvalidInput unless 0 < cost <= capacity. A clock that steps back counts as standing
    still. retry_after_s is exact when nobody else is admitted meanwhile.
    """
    check_cost(cost, policy)
    elapsed_s = max(0.0, now_s - meter.conformed_at_s)
    level = max(0.0, meter.level - elapsed_s * policy.rate_per_s)
    if level + cost > policy.capacity:
        wait_s = (level + cost - policy.capacity) / policy.rate_per_s
        return meter, Decision(False, policy.capacity - level, wait_s)
    poured = Meter(level + cost, max(now_s, meter.conformed_at_s))
    return poured, Decision(True, policy.capacity - poured.level, 0.0)
