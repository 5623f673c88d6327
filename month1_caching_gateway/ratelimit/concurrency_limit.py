"""The driver of the concurrency limit: hold a lease around a piece of work."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from month1_caching_gateway.ratelimit.algorithm import Asker
from month1_caching_gateway.ratelimit.concurrency import LeaseAsk, LeasePolicy, LeaseStep
from month1_caching_gateway.ratelimit.token_bucket import Decision
from scalelab.errors import OutcomeUnknown, Overloaded, Unavailable


def _random_id() -> str:
    return uuid4().hex


class ConcurrencyLimit:
    """At most `policy.slots` holders of a key over all processes that share `leases`.

    leases: MemoryTable(clock, CONCURRENCY) or RedisBatches(client, CONCURRENCY, prefix=...).
    """

    def __init__(
        self,
        leases: Asker[LeaseAsk],
        policy: LeasePolicy,
        *,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        self._leases = leases
        self._policy = policy
        self._new_id = new_id

    async def acquire(self, key: str, lease_id: str) -> Decision:
        """Take a slot, or renew the one this id holds. Raises as the store does."""
        return await self._leases.ask(key, LeaseAsk(self._policy, LeaseStep.ACQUIRE, lease_id))

    async def release(self, key: str, lease_id: str) -> bool:
        """Give the slot back; whether it was still held. May be repeated. Raises as the store."""
        ask = LeaseAsk(self._policy, LeaseStep.RELEASE, lease_id)
        return (await self._leases.ask(key, ask)).admitted

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncGenerator[None, None]:
        """Hold a slot for the block; it is given back on error and cancellation, too.

        Raises Overloaded (`concurrency_limit`) when all slots are taken. If the store cannot be
        reached at the end, the lease ends by itself.
        """
        lease_id = self._new_id()
        try:
            decision = await self.acquire(key, lease_id)
            if not decision.admitted:
                raise Overloaded(
                    f"all {self._policy.slots} slots are taken",
                    retry_after_s=decision.retry_after_s,
                    code="concurrency_limit",
                )
            yield
        finally:
            # Also after a cancelled or unanswered acquire: the server may have counted it.
            with contextlib.suppress(Unavailable, OutcomeUnknown):
                await self.release(key, lease_id)
