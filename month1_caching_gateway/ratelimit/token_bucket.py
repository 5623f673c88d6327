"""Token bucket: admit bursts up to a capacity, then a steady rate.

Theory of operation
    The bucket holds `tokens` in 0..capacity and refills at `rate_per_s`. A request of cost c
    is admitted when tokens >= c. Only two numbers are stored; refill is computed on arrival.
    A key that was never seen has a full bucket, so a bucket that is full again may be forgotten.

Invariants (tests cite them)
    I1  0 <= tokens <= capacity.
    I2  In any window of t seconds at most capacity + rate_per_s * t is admitted.
    I3  A refused request changes nothing but the refill instant.

Absent on purpose: waiting, and fairness between keys.
Source: Turner 1986, "New directions in communications"; differs in: cost may exceed 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scalelab.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Policy:
    """How much, how fast. capacity: tokens, >= 1. rate_per_s: tokens per second, > 0.

    Raises InvalidInput for a policy that could never admit anything.
    """

    capacity: float
    rate_per_s: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.capacity) and self.capacity >= 1.0):
            raise InvalidInput(f"capacity {self.capacity} must be >= 1", field="capacity")
        if not (math.isfinite(self.rate_per_s) and self.rate_per_s > 0.0):
            raise InvalidInput(f"rate_per_s {self.rate_per_s} must be > 0", field="rate_per_s")

    def share(self, parts: int) -> Policy:
        """One of `parts` equal shares, for a limiter that has lost sight of its peers.

        The capacity stays at least 1: a share that admits nothing would be a refusal.
        """
        return Policy(max(1.0, self.capacity / parts), self.rate_per_s / parts)


@dataclass(frozen=True, slots=True)
class Bucket:
    """State of one key. refilled_at_s: seconds on the store's clock, never decreasing."""

    tokens: float
    refilled_at_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """admitted, tokens left, and seconds until a retry can succeed (0.0 when admitted)."""

    admitted: bool
    remaining: float
    retry_after_s: float


def full(policy: Policy, *, now_s: float) -> Bucket:
    """The bucket of a key that was never seen."""
    return Bucket(policy.capacity, now_s)


def check_cost(cost: float, policy: Policy) -> None:
    """Raise InvalidInput unless 0 < cost <= capacity: anything else is a mistake of the caller."""
    if not 0.0 < cost <= policy.capacity:
        raise InvalidInput(f"cost {cost} is not in (0, {policy.capacity}]", field="cost")


def decide(bucket: Bucket, policy: Policy, *, cost: float, now_s: float) -> tuple[Bucket, Decision]:
    """Refill to `now_s`, then admit or refuse a request of `cost` tokens.

    Raises InvalidInput if cost exceeds the capacity: it could never be admitted.
    Cost: O(1), no I/O. A clock that steps back counts as standing still (I1 holds).
    """
    check_cost(cost, policy)
    elapsed_s = max(0.0, now_s - bucket.refilled_at_s)
    tokens = min(policy.capacity, bucket.tokens + elapsed_s * policy.rate_per_s)
    admitted = tokens >= cost
    left = tokens - cost if admitted else tokens
    wait_s = 0.0 if admitted else (cost - tokens) / policy.rate_per_s
    return Bucket(left, max(now_s, bucket.refilled_at_s)), Decision(admitted, left, wait_s)


def full_after_s(remaining: float, policy: Policy) -> float:
    """Seconds until a bucket holding `remaining` tokens is full again."""
    return max(0.0, policy.capacity - remaining) / policy.rate_per_s
