"""The limiter a gateway asks: a store, and a named answer for the time the store is gone.

Theory of operation
    `Limiter.check` asks the store. When the store is unreachable or late, the `FailurePolicy`
    decides, and for `cooloff_s` seconds the store is not asked at all: otherwise every request
    of an outage would wait for the deadline first.

        OPEN         admit everything: the shop goes on, unprotected
        CLOSED       refuse with `Unavailable`: nothing passes uncounted
        LOCAL_SHARE  count here, with 1/processes of each policy: the sum over all processes
                     keeps the limit when the load is spread evenly (the default)

    On the way into an outage a key may be admitted by both: at most one share beyond its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from month1_caching_gateway.ratelimit.algorithm import TOKEN_BUCKET, RateAlgorithm
from month1_caching_gateway.ratelimit.memory_store import MemoryStore
from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy, check_cost
from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, Unavailable


class Store(Protocol):
    """Where the buckets are. Adapters: MemoryStore, RedisStore; one contract suite for both."""

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """Take `cost` tokens of `key` or refuse.

        Raises InvalidInput (a cost that can never be admitted), Unavailable (not counted),
        OutcomeUnknown (perhaps counted).
        """
        ...


class FailurePolicy(Enum):
    """What a limiter answers while its store is gone."""

    OPEN = "open"
    CLOSED = "closed"
    LOCAL_SHARE = "local_share"


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store did not answer; `policy` decides until the cool-off ends."""

    policy: FailurePolicy
    error: str


class Limiter:
    """A store with a failure policy. One per process; for one event loop.

    algorithm: of the local share; give the store's own.
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
        self._clock = clock
        self._on_failure = on_failure
        self._processes = processes
        self._cooloff_s = cooloff_s
        self._on_event = on_event
        self._local = MemoryStore(clock, algorithm=algorithm)
        self._ask_again_at_s = float("-inf")

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """Take `cost` tokens of `key`, or refuse.

        Raises InvalidInput for a cost that can never be admitted, and Unavailable when the store
        is gone and the failure policy is CLOSED.
        """
        if self._clock.monotonic_s() < self._ask_again_at_s:
            return self._without_store(key, policy, cost)
        try:
            return await self._store.check(key, policy, cost=cost)
        except (Unavailable, OutcomeUnknown) as error:
            self._ask_again_at_s = self._clock.monotonic_s() + self._cooloff_s
            if self._on_event is not None:
                self._on_event(StoreFailed(self._on_failure, str(error)))
            return self._without_store(key, policy, cost)

    def _without_store(self, key: str, policy: Policy, cost: float) -> Decision:
        check_cost(cost, policy)
        if self._on_failure is FailurePolicy.OPEN:
            return Decision(admitted=True, remaining=policy.capacity - cost, retry_after_s=0.0)
        if self._on_failure is FailurePolicy.CLOSED:
            raise Unavailable(
                "the rate limiter's store does not answer", retry_after_s=self._cooloff_s
            )
        share = policy.share(self._processes)
        return self._local.check_now(key, share, cost=min(cost, share.capacity))
