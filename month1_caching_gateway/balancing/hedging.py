"""Hedging: when the first copy of a read is later than usual, send a second elsewhere. Pure.

Theory of operation
    Of a hundred answers five are slower than the 95th percentile, often for a reason of one
    server only: a pause, a queue, a lost packet. A second copy sent at that instant, to another
    server, is usually answered at once; the first answer of the two is taken. Sent at the p95 it
    costs about 5 % more requests and removes most of the tail above it.
    The percentile is learnt: latencies are counted in buckets that grow by an eighth of a power
    of two. After `HALF_LIFE` observations all counts are halved, so it follows the service.

Invariants (tests cite them)
    I1  No delay before `min_samples` observations: nothing is known, so nothing is hedged.
    I2  The delay is at least the wanted quantile of what was seen, at most an eighth above it,
        and lies within min_delay_s .. max_delay_s.
    I3  Only safe methods are hedged: both copies may be carried out.

Source: Dean and Barroso 2013, "The tail at scale". Its cost is bounded by a budget of its own
(retry_budget.py): when everything is slow, everything would be sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from month1_caching_gateway.balancing.retry_budget import Budget
from scalelab.errors import InvalidInput

_STEPS = 8
_SIZE = 40 * _STEPS
HALF_LIFE = 4096
_SAFE = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """quantile: of the latencies so far, 0..1. Delays in seconds. budget: of second copies."""

    quantile: float = 0.95
    min_samples: int = 100
    min_delay_s: float = 0.005
    max_delay_s: float = 2.0
    budget: Budget = field(default_factory=lambda: Budget(share=0.1, min_per_s=1.0, burst=10.0))

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1 or self.min_samples < 1:
            raise InvalidInput("a hedge needs a quantile in (0, 1), samples >= 1", field="hedge")
        if not 0 < self.min_delay_s <= self.max_delay_s:
            raise InvalidInput("a hedge's delays are positive and min <= max", field="hedge")


def may_hedge(method: str) -> bool:
    """I3."""
    return method in _SAFE


class Latencies:
    """How long answers took. Not exact by an eighth, and of a fixed size."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * _SIZE
        self._total = 0

    def add(self, seconds: float) -> None:
        """Count one. Cost: O(1), and a halving of all counts now and then."""
        self._counts[_bucket(seconds)] += 1
        self._total += 1
        if self._total >= HALF_LIFE:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)

    def delay_s(self, policy: HedgePolicy) -> float | None:
        """How long to wait before a second copy; None: not at all (I1, I2). Cost: O(buckets)."""
        if self._total < policy.min_samples:
            return None
        wanted = policy.quantile * self._total
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(policy.max_delay_s, max(policy.min_delay_s, _upper_s(bucket)))
        return policy.max_delay_s


def _bucket(seconds: float) -> int:
    """Below `_STEPS` µs one a microsecond; above, `_STEPS` buckets for each power of two."""
    us = int(seconds * 1e6)
    if us < _STEPS:
        return max(us, 0)
    power = us.bit_length() - 4  # so that us >> power is 8..15
    return min(_SIZE - 1, _STEPS * power + (us >> power))


def _upper_s(bucket: int) -> float:
    """The end of a bucket: no latency in it is longer."""
    if bucket < _STEPS:
        return (bucket + 1) / 1e6
    power, step = divmod(bucket, _STEPS)
    return ((step + _STEPS + 1) << (power - 1)) / 1e6
