"""The concurrency limit a gateway asks: slots in a store, and a named answer while it is gone.

A `Hold` is asked for when a request comes in and released when it has ended in any way. Nothing
here waits: the release of a slot is sent and not awaited, and a slot whose release was lost ends
with its lease.

Bound while the store fails (tests assert it)
    At most `slots` held by the store, and max(1, slots / processes) by each process's local share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

from month1_caching_gateway.ratelimit.algorithm import CONCURRENCY
from month1_caching_gateway.ratelimit.concurrency import LeaseAsk, LeasePolicy, LeaseStep
from month1_caching_gateway.ratelimit.failure import FailurePolicy, Outage, StoreFailed
from month1_caching_gateway.ratelimit.limiter import Answer
from month1_caching_gateway.ratelimit.memory_store import MemoryTable
from month1_caching_gateway.ratelimit.token_bucket import Decision
from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, Unavailable

AskLease = Callable[[str, LeaseAsk], Answer]
"""Where the leases are: `MemoryTable.ask_now` or `RedisBatches.ask`."""


def _random_id() -> str:
    return uuid4().hex


class LeaseLimiter:
    """Slots with a failure policy. One per process; for one event loop."""

    def __init__(
        self,
        leases: AskLease,
        clock: Clock,
        *,
        on_failure: FailurePolicy = FailurePolicy.LOCAL_SHARE,
        processes: int = 1,
        cooloff_s: float = 1.0,
        on_event: Callable[[StoreFailed], None] | None = None,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        if processes < 1:
            raise ValueError("processes must be >= 1")
        self.shared = leases
        self.local: AskLease = MemoryTable(clock, CONCURRENCY).ask_now
        self.processes = processes
        self.outage = Outage(clock, on_failure, cooloff_s=cooloff_s, on_event=on_event)
        self._new_id = new_id

    def hold(self, key: str, policy: LeasePolicy) -> Hold:
        """Ask for a slot; its answer may be a future.

        Raises Unavailable when the store is gone and the failure policy is CLOSED.
        """
        return Hold(self, key, policy, self._new_id())


class Hold:
    """One slot, asked for. answer: as `Limiter.ask` gives it."""

    __slots__ = ("_key", "_lease_id", "_limiter", "_policy", "_slot_at", "answer")

    def __init__(self, limiter: LeaseLimiter, key: str, policy: LeasePolicy, lease_id: str) -> None:
        self._limiter = limiter
        self._key = key
        self._policy = policy
        self._lease_id = lease_id
        self._slot_at: AskLease | None = None
        self.answer = self._ask()

    def settle(self) -> Decision:
        """The decision, once the answer is there; the failure policy's, if the store failed."""
        if isinstance(self.answer, Decision):
            return self.answer
        try:
            return self._taken(self.answer.result(), self._limiter.shared)
        except (Unavailable, OutcomeUnknown) as error:
            self._limiter.outage.begin(error)
            return self._without_store()

    def release(self) -> None:
        """Give the slot back. May be repeated; a slot that is not held yet is given back later."""
        if isinstance(self.answer, asyncio.Future) and not self.answer.done():
            self.answer.add_done_callback(self._release_late)
            return
        slot_at, self._slot_at = self._slot_at, None
        if slot_at is None or (slot_at is self._limiter.shared and self._limiter.outage.lasts):
            return
        try:
            released = slot_at(self._key, LeaseAsk(self._policy, LeaseStep.RELEASE, self._lease_id))
        except (Unavailable, OutcomeUnknown):
            return
        if isinstance(released, asyncio.Future):
            released.add_done_callback(_forget)

    def _release_late(self, answer: asyncio.Future[Decision]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._taken(answer.result(), self._limiter.shared)
            self.release()

    def _ask(self) -> Answer:
        limiter = self._limiter
        if limiter.outage.lasts:
            return self._without_store()
        try:
            answer = limiter.shared(self._key, self._acquire(self._policy))
        except (Unavailable, OutcomeUnknown) as error:
            limiter.outage.begin(error)
            return self._without_store()
        return self._taken(answer, limiter.shared) if isinstance(answer, Decision) else answer

    def _without_store(self) -> Decision:
        limiter = self._limiter
        if limiter.outage.policy is FailurePolicy.OPEN:
            return Decision(admitted=True, remaining=float(self._policy.slots), retry_after_s=0.0)
        if limiter.outage.policy is FailurePolicy.CLOSED:
            raise limiter.outage.refusal()
        answer = limiter.local(self._key, self._acquire(self._policy.share(limiter.processes)))
        if not isinstance(answer, Decision):
            raise TypeError("the local share decides at once")
        return self._taken(answer, limiter.local)

    def _acquire(self, policy: LeasePolicy) -> LeaseAsk:
        return LeaseAsk(policy, LeaseStep.ACQUIRE, self._lease_id)

    def _taken(self, decision: Decision, slot_at: AskLease) -> Decision:
        self._slot_at = slot_at if decision.admitted else None
        return decision


def _forget(answer: asyncio.Future[Decision]) -> None:
    """A release that failed: the lease ends by itself."""
    if not answer.cancelled():
        answer.exception()
