"""Limits in this process: exact for one process, blind to the others.

Used where one gateway runs alone, in tests, and as the local share when Redis is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from month1_caching_gateway.ratelimit.algorithm import (
    TOKEN_BUCKET,
    Algorithm,
    Ask,
    RateAlgorithm,
)
from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy
from scalelab.clock import Clock

Q = TypeVar("Q")
S = TypeVar("S")


class MemoryTable(Generic[Q, S]):
    """At most `max_keys` states, the least recently used one is forgotten first.

    A forgotten key begins anew: under more than `max_keys` active keys the promise is weaker by
    one capacity per forgotten key. Safe within one event loop; not across threads.
    """

    def __init__(
        self, clock: Clock, algorithm: Algorithm[Q, S], *, max_keys: int = 100_000
    ) -> None:
        if max_keys < 1:
            raise ValueError("max_keys must be >= 1")
        self._clock = clock
        self._step = algorithm.step
        self._max_keys = max_keys
        self._states: OrderedDict[str, S] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def ask_now(self, key: str, question: Q) -> Decision:
        """Decide without waiting. Raises InvalidInput for a question that makes no sense."""
        now_s = self._clock.monotonic_s()
        self._states[key], decision = self._step(self._states.get(key), question, now_s)
        self._states.move_to_end(key)
        if len(self._states) > self._max_keys:
            self._states.popitem(last=False)
        return decision

    async def ask(self, key: str, question: Q) -> Decision:
        """As `ask_now`, in the shape every store has."""
        return self.ask_now(key, question)


class MemoryStore:
    """Rate limits by any algorithm, token buckets unless told otherwise; see `MemoryTable`."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_keys: int = 100_000,
        algorithm: RateAlgorithm = TOKEN_BUCKET,
    ) -> None:
        self._table = MemoryTable(clock, algorithm, max_keys=max_keys)

    def __len__(self) -> int:
        return len(self._table)

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """Decide without waiting. Raises InvalidInput for a cost the policy can never admit."""
        return self._table.ask_now(key, Ask(policy, cost))

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """As `ask`, for whoever awaits his answers."""
        return self.ask(key, policy, cost=cost)
