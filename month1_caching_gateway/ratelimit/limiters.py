"""One limiter for every algorithm and failure policy that a gateway's rules name.

Rules come and go with the route file; the states they count stay where they are, so that a reload
forgives nobody. Each algorithm has a prefix of its own in the store, because their states differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import redis.asyncio as redis_asyncio

from month1_caching_gateway.ratelimit.algorithm import CONCURRENCY, RateAlgorithm
from month1_caching_gateway.ratelimit.concurrency import LeaseAsk
from month1_caching_gateway.ratelimit.failure import FailurePolicy, StoreFailed
from month1_caching_gateway.ratelimit.keys import LeaseRule, Rule
from month1_caching_gateway.ratelimit.lease_limiter import LeaseLimiter
from month1_caching_gateway.ratelimit.limiter import Answer, Limiter, Store
from month1_caching_gateway.ratelimit.memory_store import MemoryStore, MemoryTable
from month1_caching_gateway.ratelimit.redis_batches import RedisBatches
from month1_caching_gateway.ratelimit.redis_store import RedisStore
from scalelab.clock import Clock


class Stores(Protocol):
    """Where states of every kind are. Adapters: MemoryStores, RedisStores."""

    def of(self, algorithm: RateAlgorithm) -> Store:
        """The one store of this algorithm."""
        ...

    def ask_lease(self, key: str, question: LeaseAsk) -> Answer:
        """As `Store.ask`, for a slot."""
        ...

    async def aclose(self) -> None:
        """Wait for what is under way."""
        ...


class MemoryStores:
    """Everything in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stores: dict[str, MemoryStore] = {}
        self._leases = MemoryTable(clock, CONCURRENCY)

    def of(self, algorithm: RateAlgorithm) -> Store:
        found = self._stores.get(algorithm.name)
        if found is None:
            found = self._stores[algorithm.name] = MemoryStore(self._clock, algorithm=algorithm)
        return found

    def ask_lease(self, key: str, question: LeaseAsk) -> Answer:
        return self._leases.ask_now(key, question)

    async def aclose(self) -> None:
        return


class RedisStores:
    """Everything in one Redis. client: its own pool of 4 connections an algorithm at least."""

    def __init__(
        self,
        client: redis_asyncio.Redis,
        *,
        prefix: str = "ratelimit:",
        deadline_s: float = 0.05,
        max_pending: int = 8192,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._deadline_s = deadline_s
        self._max_pending = max_pending
        self._stores: dict[str, RedisStore] = {}
        self._leases = RedisBatches(
            client,
            CONCURRENCY,
            prefix=f"{prefix}{CONCURRENCY.name}:",
            deadline_s=deadline_s,
            max_pending=max_pending,
        )

    def of(self, algorithm: RateAlgorithm) -> Store:
        found = self._stores.get(algorithm.name)
        if found is None:
            found = self._stores[algorithm.name] = RedisStore(
                self._client,
                prefix=f"{self._prefix}{algorithm.name}:",
                deadline_s=self._deadline_s,
                max_pending=self._max_pending,
                algorithm=algorithm,
            )
        return found

    def ask_lease(self, key: str, question: LeaseAsk) -> Answer:
        return self._leases.ask(key, question)

    async def aclose(self) -> None:
        for store in self._stores.values():
            await store.aclose()
        await self._leases.aclose()


class Limiters:
    """The limiter of each rule. One per process; for one event loop.

    processes: over which a local share is cut. The stores are closed by whoever made them.
    """

    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        *,
        processes: int = 1,
        cooloff_s: float = 1.0,
        on_event: Callable[[StoreFailed], None] | None = None,
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._processes = processes
        self._cooloff_s = cooloff_s
        self._on_event = on_event
        self._rates: dict[tuple[str, FailurePolicy], Limiter] = {}
        self._leases: dict[FailurePolicy, LeaseLimiter] = {}

    def of(self, rule: Rule) -> Limiter:
        """The limiter of a rate; rules of one algorithm and failure policy share it."""
        name = (rule.algorithm.name, rule.on_failure)
        found = self._rates.get(name)
        if found is None:
            found = self._rates[name] = Limiter(
                self._stores.of(rule.algorithm),
                self._clock,
                on_failure=rule.on_failure,
                processes=self._processes,
                cooloff_s=self._cooloff_s,
                on_event=self._on_event,
                algorithm=rule.algorithm,
            )
        return found

    def leases_of(self, rule: LeaseRule) -> LeaseLimiter:
        """The limiter of what is under way."""
        found = self._leases.get(rule.on_failure)
        if found is None:
            found = self._leases[rule.on_failure] = LeaseLimiter(
                self._stores.ask_lease,
                self._clock,
                on_failure=rule.on_failure,
                processes=self._processes,
                cooloff_s=self._cooloff_s,
                on_event=self._on_event,
            )
        return found
