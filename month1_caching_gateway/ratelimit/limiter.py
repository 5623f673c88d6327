"""The limiter a gateway asks: a store, and a named answer for the time the store is gone.

Bound while the store fails (tests assert it)
    In t seconds at most bound(policy, t) is admitted by the store and bound(share, t) by each
    process's local share, so over n processes at most bound(policy, t) + n * bound(share, t),
    which is about twice the policy. A store that loses its data (a restart, a flush) begins every
    key anew: one capacity more for each loss. OPEN states no bound; CLOSED has the store's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from month1_caching_gateway.ratelimit.algorithm import TOKEN_BUCKET, RateAlgorithm
from month1_caching_gateway.ratelimit.failure import FailurePolicy, Outage, StoreFailed
from month1_caching_gateway.ratelimit.memory_store import MemoryStore
from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy, check_cost
from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, Unavailable

Answer = Decision | asyncio.Future[Decision]
"""A decision, or the future of the batch that brings it; the batch's deadline ends the wait."""


class Store(Protocol):
    """Where the buckets are. Adapters: MemoryStore, RedisStore; one contract suite for both."""

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Answer:
        """Take `cost` tokens of `key` or refuse.

        It, or its future, raises InvalidInput (a cost that can never be admitted), Unavailable
        (not counted), OutcomeUnknown (perhaps counted).
        """
        ...


class Limiter:
    """A store with a failure policy. One per process; for one event loop.

    algorithm: of the local share; give the store's own. processes: over which a share is cut.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        on_failure: FailurePolicy = FailurePolicy.LOCAL_SHARE,
        processes: int = 1,
        cooloff_s: float = 1.0,
        on_event: Callable[[StoreFailed], None] | None = None,
        algorithm: RateAlgorithm = TOKEN_BUCKET,
    ) -> None:
        if processes < 1:
            raise ValueError("processes must be >= 1")
        self._store = store
        self._processes = processes
        self._local = MemoryStore(clock, algorithm=algorithm)
        self._outage = Outage(clock, on_failure, cooloff_s=cooloff_s, on_event=on_event)

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Answer:
        """A decision at once where that is possible; else a future, to be given to `settle`.

        Raises InvalidInput for a cost that can never be admitted, and Unavailable when the store
        is gone and the failure policy is CLOSED.
        """
        if self._outage.lasts:
            return self._without_store(key, policy, cost)
        try:
            return self._store.ask(key, policy, cost=cost)
        except (Unavailable, OutcomeUnknown) as error:
            return self._failed(error, key, policy, cost)

    def settle(
        self, answer: asyncio.Future[Decision], key: str, policy: Policy, *, cost: float = 1.0
    ) -> Decision:
        """The decision of a future that is done; the failure policy's, if it failed. Raises so."""
        try:
            return answer.result()
        except (Unavailable, OutcomeUnknown) as error:
            return self._failed(error, key, policy, cost)

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """As `ask` and `settle`, for whoever can wait."""
        answer = self.ask(key, policy, cost=cost)
        if isinstance(answer, Decision):
            return answer
        try:
            return await answer
        except (Unavailable, OutcomeUnknown) as error:
            return self._failed(error, key, policy, cost)

    def _failed(self, error: Exception, key: str, policy: Policy, cost: float) -> Decision:
        self._outage.begin(error)
        return self._without_store(key, policy, cost)

    def _without_store(self, key: str, policy: Policy, cost: float) -> Decision:
        check_cost(cost, policy)
        if self._outage.policy is FailurePolicy.OPEN:
            return Decision(admitted=True, remaining=policy.capacity - cost, retry_after_s=0.0)
        if self._outage.policy is FailurePolicy.CLOSED:
            raise self._outage.refusal()
        share = policy.share(self._processes)
        return self._local.ask(key, share, cost=min(cost, share.capacity))
