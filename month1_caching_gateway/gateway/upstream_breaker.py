"""The breaker of one upstream: the pure machine of scalelab.resilience, held for the event loop.

Nearly every call finds the breaker closed and succeeds. Those calls share one permit, and their
successes are counted in one integer for each slice of time; the machine is told of them when the
slice ends, or before it hears of anything else. Its state is then what it would be if it had been
told one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from month1_caching_gateway.gateway.heads import ResponseHead
from scalelab.clock import Clock
from scalelab.errors import BreakerOpen
from scalelab.resilience import BreakerChanged, BreakerPolicy, Phase
from scalelab.resilience.circuit_breaker import (
    Breaker,
    Outcome,
    answer,
    ask,
    bucket_of,
    succeeded,
)

UNHEALTHY = frozenset((502, 503, 504))
_OUTCOMES = {True: Outcome.SUCCESS, False: Outcome.FAILURE, None: Outcome.NEUTRAL}


def health_of(head: ResponseHead) -> bool | None:
    """What an answer tells the breaker: healthy, failing, or nothing.

    A 503 with Retry-After is a decision: the service lives and says that this request cannot be
    served now, perhaps because one shard of several is away. Were it counted as a failure, the
    breaker would take the other shards' customers down with it.
    """
    if head.status == 503 and any(name.lower() == b"retry-after" for name, _ in head.headers):
        return None
    return head.status not in UNHEALTHY


class UpstreamBreaker:
    """Refuses calls to a service that keeps failing. on_change hears every change of phase."""

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy,
        clock: Clock,
        on_change: Callable[[BreakerChanged], None],
    ) -> None:
        self._name = name
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._breaker = Breaker()
        self._closed_permit: Permit | None = Permit(self, self._breaker.generation)
        self._bucket = -1
        self._successes = 0

    @property
    def phase(self) -> Phase:
        """As of the last call: an open breaker half-opens when somebody asks."""
        return self._breaker.phase

    def admit(self) -> Permit:
        """Leave to make one call. Raises BreakerOpen."""
        if self._closed_permit is not None:
            return self._closed_permit
        now_s = self._clock.monotonic_s()
        after, admission = ask(self._breaker, self._policy, now_s=now_s)
        self._become(after)
        if not admission.admitted:
            raise BreakerOpen(f"{self._name} keeps failing", retry_after_s=admission.retry_after_s)
        return Permit(self, admission.generation)

    def settle(self, generation: int, *, ok: bool | None) -> None:
        """How a permitted call went; called by its permit."""
        now_s = self._clock.monotonic_s()
        bucket = bucket_of(self._policy, now_s)
        if self._successes and (bucket != self._bucket or not ok):
            before = self._breaker
            self._breaker = succeeded(before, self._policy, self._successes, bucket=self._bucket)
            self._successes = 0
        closed = self._closed_permit
        if ok and closed is not None and generation == closed.generation:
            self._bucket = bucket
            self._successes += 1
            return
        self._become(answer(self._breaker, self._policy, generation, _OUTCOMES[ok], now_s=now_s))

    def _become(self, after: Breaker) -> None:
        before, self._breaker = self._breaker, after
        if before.phase is not after.phase:
            closed = after.phase is Phase.CLOSED
            self._closed_permit = Permit(self, after.generation) if closed else None
            self._on_change(BreakerChanged(self._name, before.phase, after.phase))


class Permit:
    """Leave to make one call; to be reported exactly once by each who got it."""

    __slots__ = ("_breaker", "generation")

    def __init__(self, breaker: UpstreamBreaker, generation: int) -> None:
        self._breaker = breaker
        self.generation = generation

    def report(self, *, ok: bool | None) -> None:
        """How it went; None: it says nothing about the service's health."""
        self._breaker.settle(self.generation, ok=ok)
