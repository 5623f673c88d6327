"""Rate limits in Redis, by any algorithm: one count for all gateways that share the server."""

from __future__ import annotations

import asyncio

import redis.asyncio as redis_asyncio

from month1_caching_gateway.ratelimit.algorithm import TOKEN_BUCKET, Ask, RateAlgorithm
from month1_caching_gateway.ratelimit.redis_batches import RedisBatches
from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy


class RedisStore:
    """Limits under `prefix` in one Redis server. Owned by whoever opened it; `aclose` waits.

    Token buckets unless told otherwise. Two algorithms under one key need two prefixes: their
    states differ. client: its own pool of at least `max_batches` connections; not closed here.
    """

    def __init__(
        self,
        client: redis_asyncio.Redis,
        *,
        prefix: str = "ratelimit:",
        deadline_s: float = 0.05,
        max_batch: int = 256,
        max_batches: int = 4,
        max_pending: int = 8192,
        algorithm: RateAlgorithm = TOKEN_BUCKET,
    ) -> None:
        self._batches = RedisBatches(
            client,
            algorithm,
            prefix=prefix,
            deadline_s=deadline_s,
            max_batch=max_batch,
            max_batches=max_batches,
            max_pending=max_pending,
        )

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> asyncio.Future[Decision]:
        """Take `cost` of `key`'s allowance or refuse; the future ends with this tick's batch.

        Raises InvalidInput, Unavailable (not counted), OutcomeUnknown (perhaps counted).
        """
        return self._batches.ask(key, Ask(policy, cost))

    async def check(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        """As `ask`, for whoever can wait."""
        return await self._batches.answer(key, Ask(policy, cost))

    async def aclose(self) -> None:
        """Wait for the batches under way; each ends by its deadline. Checks not yet sent fail."""
        await self._batches.aclose()
