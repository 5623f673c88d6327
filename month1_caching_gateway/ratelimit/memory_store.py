"""Token buckets in this process: exact for one process, blind to the others.

Used where one gateway runs alone, in tests, and as the local share when Redis is gone.
"""

from __future__ import annotations

from collections import OrderedDict

from month1_caching_gateway.ratelimit.token_bucket import Bucket, Decision, Policy, decide, full
from scalelab.clock import Clock


class MemoryStore:
    """At most `max_keys` buckets, the least recently used one is forgotten first.

    A forgotten key starts with a full bucket: under more than `max_keys` active keys the promise
    is weaker by one capacity per forgotten key. Safe within one event loop; not across threads.
    """

    def __init__(self, clock: Clock, *, max_keys: int = 100_000) -> None:
        if max_keys < 1:
            raise ValueError("max_keys must be >= 1")
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def check_now(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """Decide without waiting. Raises InvalidInput for a cost the policy can never admit."""
        now_s = self._clock.monotonic_s()
        bucket = self._buckets.get(key) or full(policy, now_s=now_s)
        self._buckets[key], decision = decide(bucket, policy, cost=cost, now_s=now_s)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return decision

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """As `check_now`, in the shape every store has."""
        return self.check_now(key, policy, cost=cost)
