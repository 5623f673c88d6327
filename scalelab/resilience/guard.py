"""Guard: everything around one outbound call, in the one order that makes sense.

    deadline                      one instant for the whole call, waits included
      bulkhead                    a place, or Overloaded at once
        breaker -> attempt        refused before it is sent, or tried
        retry                     while the error, the budget and the deadline allow it
    fallback                      only for failures of the dependency, never for its answers

The breaker judges each attempt, the budget bounds retries over all calls, and the fallback sees
only the final error. What a deadline cuts off in the middle of an attempt is OutcomeUnknown:
the request may be there. And once any try ended in OutcomeUnknown, the call never ends in an error
that claims nothing was changed.

Time and randomness are passed in, so tests use neither. On cancellation the breaker's place is
given back (NEUTRAL) and the cancellation goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

from scalelab.clock import Clock, SystemClock
from scalelab.errors import (
    BreakerOpen,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    ScalelabError,
    Unavailable,
)
from scalelab.resilience import circuit_breaker as cb
from scalelab.resilience.bulkhead import Bulkhead
from scalelab.resilience.deadline import Deadline
from scalelab.resilience.events import (
    BreakerChanged,
    CallEnded,
    CallFellBack,
    CallRetried,
    GuardEvent,
    Hook,
    RetryRefused,
)
from scalelab.resilience.retry import RetryBudget, RetryPolicy, may_repeat, wait_s

T = TypeVar("T")
Fallback = Callable[[ScalelabError], Awaitable[T]]
"""Gets the error that ended the call; returns a substitute or raises."""


class Guard:
    """Protects calls to one dependency. Share one per dependency, not per call.

    timeout_s: for a whole call. breaker, bulkhead: None for none. retry: None for one try.
    sleep, random_unit: replaced in tests.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float = 2.0,
        breaker: cb.BreakerPolicy | None = None,
        retry: RetryPolicy | None = None,
        bulkhead: Bulkhead | None = None,
        hooks: Sequence[Hook] = (),
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._timeout_s = timeout_s
        self._policy = breaker
        self._breaker = cb.Breaker()
        self._retry = retry or RetryPolicy(attempts=1)
        self._budget = RetryBudget(self._retry.budget)
        self._bulkhead = bulkhead
        self._hooks = tuple(hooks)
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._random_unit = random_unit

    @property
    def phase(self) -> cb.Phase:
        """The breaker's phase now; CLOSED if there is no breaker."""
        return self._breaker.phase

    async def call(
        self,
        fn: Callable[[], Awaitable[T]],
        *,
        idempotent: bool,
        fallback: Fallback[T] | None = None,
        deadline: Deadline | None = None,
    ) -> T:
        """Await `fn()`, at most `attempts` times, and return its result.

        idempotent: whether a repeat does no harm; decides if OutcomeUnknown is retried.
        deadline: the caller's own; the earlier one counts. `fallback` answers when the dependency
        failed (Unavailable, OutcomeUnknown, Overloaded), not when it said no.
        """
        started_s = self._clock.monotonic_s()
        limit = Deadline.after(self._timeout_s, now_s=started_s).earlier(deadline)
        tries = _Tries()
        result = "cancelled"
        try:
            async with self._place(limit):
                value = await self._attempts(fn, idempotent, limit, tries)
            result = "ok"
            return value
        except ScalelabError as error:
            result = error.stable_code
            if fallback is None or not is_failure(error):
                raise
            self._tell(CallFellBack(self.name, result))
            return await fallback(error)
        except Exception:
            result = "internal"
            raise
        finally:
            elapsed_s = self._clock.monotonic_s() - started_s
            self._tell(CallEnded(self.name, result, tries.made, elapsed_s))

    def _place(self, limit: Deadline) -> AbstractAsyncContextManager[None]:
        if self._bulkhead is None:
            return nullcontext()
        left_s = limit.remaining_s(now_s=self._clock.monotonic_s())
        return self._bulkhead.place(timeout_s=left_s)

    async def _attempts(
        self, fn: Callable[[], Awaitable[T]], idempotent: bool, limit: Deadline, tries: _Tries
    ) -> T:
        self._budget.on_call()
        while True:
            try:
                return await self._attempt(fn, limit, tries)
            except ScalelabError as error:
                tries.may_have_landed |= isinstance(error, OutcomeUnknown)
                delay_s = self._delay_before_retry(error, idempotent, limit, tries)
                if delay_s is None:
                    raise self._honest(error, tries) from error
                self._tell(CallRetried(self.name, tries.made, delay_s, error.stable_code))
            await self._sleep(delay_s)

    def _honest(self, error: ScalelabError, tries: _Tries) -> ScalelabError:
        """`error`, unless it claims that nothing happened while an earlier try may have landed."""
        if not tries.may_have_landed or not error.retryable or isinstance(error, OutcomeUnknown):
            return error
        return OutcomeUnknown(f"{self.name}: a try got no answer, then: {error.message}")

    def _delay_before_retry(
        self, error: ScalelabError, idempotent: bool, limit: Deadline, tries: _Tries
    ) -> float | None:
        """Seconds to wait before another try, None to give up with `error`."""
        if tries.made >= self._retry.attempts or not may_repeat(error, idempotent=idempotent):
            return None
        delay_s = wait_s(error, self._retry, retry=tries.made, random_unit=self._random_unit())
        if not limit.leaves_room_for(delay_s, now_s=self._clock.monotonic_s()):
            return None
        if not self._budget.grants_retry():
            self._tell(RetryRefused(self.name, error.stable_code))
            return None
        return delay_s

    async def _attempt(self, fn: Callable[[], Awaitable[T]], limit: Deadline, tries: _Tries) -> T:
        limit.check(self.name, now_s=self._clock.monotonic_s())
        generation = self._ask()
        tries.made += 1
        outcome = cb.Outcome.NEUTRAL
        try:
            value = await self._timed(fn, limit)
            outcome = cb.Outcome.SUCCESS
            return value
        except ScalelabError as error:
            outcome = cb.Outcome.FAILURE if is_failure(error) else cb.Outcome.SUCCESS
            raise
        finally:
            self._answer(generation, outcome)

    async def _timed(self, fn: Callable[[], Awaitable[T]], limit: Deadline) -> T:
        left_s = limit.remaining_s(now_s=self._clock.monotonic_s())
        cut = asyncio.timeout(left_s)
        try:
            async with cut:
                return await fn()
        except TimeoutError as error:
            if not cut.expired():
                raise
            raise OutcomeUnknown(f"{self.name} gave no answer within {left_s:.3f} s") from error

    def _ask(self) -> int:
        if self._policy is None:
            return 0
        before = self._breaker.phase
        self._breaker, admission = cb.ask(
            self._breaker, self._policy, now_s=self._clock.monotonic_s()
        )
        self._tell_phase(before)
        if not admission.admitted:
            raise BreakerOpen(
                f"{self.name} keeps failing, not called", retry_after_s=admission.retry_after_s
            )
        return admission.generation

    def _answer(self, generation: int, outcome: cb.Outcome) -> None:
        if self._policy is None:
            return
        before = self._breaker.phase
        self._breaker = cb.answer(
            self._breaker, self._policy, generation, outcome, now_s=self._clock.monotonic_s()
        )
        self._tell_phase(before)

    def _tell_phase(self, before: cb.Phase) -> None:
        if self._breaker.phase is not before:
            self._tell(BreakerChanged(self.name, before, self._breaker.phase))

    def _tell(self, event: GuardEvent) -> None:
        for hook in self._hooks:
            hook(event)


class _Tries:
    __slots__ = ("made", "may_have_landed")

    def __init__(self) -> None:
        self.made = 0
        self.may_have_landed = False


def is_failure(error: ScalelabError) -> bool:
    """Whether an error means that the dependency failed, rather than that it answered "no"."""
    if isinstance(error, RateLimited):
        return False
    return isinstance(error, (Unavailable, OutcomeUnknown, Overloaded))
